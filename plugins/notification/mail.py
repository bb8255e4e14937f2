"""One e-mail: its headers cannot be forged by what an event says."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING

from runner import Message, Reject
from runner.headers import seconds_of

if TYPE_CHECKING:
    from email.headerregistry import Address

#: Its part before the @ is a dot-atom (RFC 5322, section 3.2.3) in lower case, which email_validator leaves as it is:
#: of ASCII it changes none but the names of RFC 2142, such as Postmaster.
PLAIN_ADDRESS = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*@([a-z0-9.-]+)")
#: Characters of an address (RFC 5321, section 4.5.3.1.3, less the angle brackets).
MAX_ADDRESS = 254
#: An event's id that a Message-ID may hold as it is.
TOKEN = re.compile(r"[A-Za-z0-9-]{1,128}")


@dataclass(frozen=True, slots=True)
class Email:
    """What one e-mail says; the sender is one that ``check_sender`` takes."""

    sender: str
    recipient: str
    subject: str
    text: str
    #: As RFC 5322 writes it.
    date: str
    #: What stands before the @ of its Message-ID.
    token: str

    @property
    def shown_subject(self) -> str:
        """The subject as a reader is shown it: encoded words (RFC 2047) that an event brought are read."""
        return _as_header("Subject", self.subject) if "=?" in self.subject else self.subject


def parse_address(text: str, *, may_have_name: bool = False) -> Address:
    """Read one address. Raises ValueError for none, several, or one with control characters."""
    # Imported here because the options are also checked by programs that never send an e-mail.
    from email.headerregistry import Address

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


def read_recipient(text: str) -> str:
    """Return the address as a header shows it. Raises ValueError as ``parse_address`` does."""
    # What most addresses are needs no more than its domain looked at, which others have too.
    plain = PLAIN_ADDRESS.fullmatch(text)
    if plain is not None and len(text) <= MAX_ADDRESS and _is_plain_domain(plain[1]):
        return text
    return _as_header("To", parse_address(text))


@lru_cache(maxsize=4096)
def _is_plain_domain(domain: str) -> bool:
    """Whether an address there is one, and in its normal form, where its part before the @ is."""
    # Imported here because the options are also checked by programs that never send an e-mail.
    from email_validator import EmailNotValidError, validate_email

    try:
        found = validate_email(f"a@{domain}", check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError:
        return False
    return found.ascii_domain == found.domain == domain


def _as_header(name: str, value: Address | str) -> str:
    """What a reader is shown of a header of that value."""
    mail = EmailMessage()
    mail[name] = value
    return str(mail[name])


def compose(message: Message, sender: str, recipient: str, subject: str, text: str) -> Email:
    """Make the e-mail; the same event always gives the same one. Raises Reject for a bad recipient."""
    try:
        address = read_recipient(recipient)
    except ValueError as error:
        raise Reject(f"message {message.id or 'without id'}: customer_email: {recipient!r} {error}") from None
    subject = " ".join(subject.split())
    if not subject.isprintable():
        # A line end in a subject would begin another header.
        subject = "".join(c if c.isprintable() else " " for c in subject)
    return Email(
        sender=sender,
        recipient=address,
        subject=subject,
        # JSON may hold half a surrogate pair, which no character set can.
        text=text.encode(errors="replace").decode(),
        date=formatdate(seconds_of(message.timestamp)),
        token=_token(message),
    )


def _token(message: Message) -> str:
    """The event's id as far as a Message-ID may hold it, so that a reader can tell a duplicate."""
    if TOKEN.fullmatch(message.id):
        return message.id
    return hashlib.sha256(message.id.encode(errors="replace") + message.body).hexdigest()
