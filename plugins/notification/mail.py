"""One e-mail: its headers cannot be forged by what an event says."""

from __future__ import annotations

import hashlib
import re
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate

from runner import Message, Reject


def parse_address(text: str, *, may_have_name: bool = False) -> Address:
    """Read one address. Raises ValueError for none, several, or one with control characters."""
    # Imported here because the options are also checked by programs that never send an e-mail.
    from email_validator import EmailNotValidError, validate_email

    if not text.isprintable():
        raise ValueError("holds control characters")
    try:
        found = validate_email(
            text, check_deliverability=False, globally_deliverable=False, allow_display_name=may_have_name
        )
    except EmailNotValidError as error:
        raise ValueError(f"is not one e-mail address, {error}") from None
    # The domain in ASCII: only an address with other letters before the @ needs a server that knows SMTPUTF8.
    return Address(found.display_name or "", found.local_part or "", found.ascii_domain)


def check_sender(text: str) -> str:
    """Return the sender unchanged where it is an address. Raises ValueError."""
    try:
        parse_address(text, may_have_name=True)
    except ValueError as error:
        raise ValueError(f"{error}; allowed: 'shop@example.com' or 'Shop <shop@example.com>'") from None
    return text


def compose(message: Message, sender: str, recipient: str, subject: str, text: str) -> EmailMessage:
    """Make the e-mail; the same event always gives the same one. Raises Reject for a bad recipient."""
    origin = parse_address(sender, may_have_name=True)
    mail = EmailMessage()
    mail["From"] = origin
    try:
        mail["To"] = parse_address(recipient)
    except ValueError as error:
        raise Reject(f"message {message.id or 'without id'}: customer_email: {recipient!r} {error}") from None
    # A line end in a subject would begin another header.
    mail["Subject"] = "".join(c if c.isprintable() else " " for c in " ".join(subject.split()))
    mail["Date"] = formatdate(message.timestamp)
    mail["Message-ID"] = f"<{_token(message)}@{origin.domain}>"
    # RFC 3834: keeps holiday notices from being answered to this.
    mail["Auto-Submitted"] = "auto-generated"
    # JSON may hold half a surrogate pair, which no character set can.
    mail.set_content(text.encode(errors="replace").decode())
    return mail


def _token(message: Message) -> str:
    """The event's id as far as a Message-ID may hold it, so that a reader can tell a duplicate."""
    if re.fullmatch(r"[A-Za-z0-9-]{1,128}", message.id):
        return message.id
    return hashlib.sha256(message.id.encode(errors="replace") + message.body).hexdigest()
