"""The e-mail for an event, whose contents cannot forge the e-mail's headers."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING

from runner import ENCODED_WORD, Message, Reject, plain_domain, seconds_of, validate_mailbox

if TYPE_CHECKING:
    from email.headerregistry import Address

#: The pattern of event ids that are allowed in a Message-ID.
TOKEN = re.compile(r"[A-Za-z0-9-]{1,128}")
#: The maximum number of characters that an error message quotes from a subject.
MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Email:
    """The contents of an e-mail. ``sender`` is an address that ``check_sender`` accepts."""

    sender: str
    recipient: str
    subject: str
    text: str
    #: The date in RFC 5322 format.
    date: str
    #: The part of the Message-ID before the @.
    token: str
    #: The type of the event.
    event: str = ""


def parse_address(text: str, *, may_have_name: bool = False) -> Address:
    """Return the parts of an address. Raises the same ValueError as ``validate_mailbox``."""
    # Imported here, because commands such as ``check`` import the options but send no e-mails.
    from email.headerregistry import Address

    found = validate_mailbox(text, globally_deliverable=False, allow_display_name=may_have_name)
    # The domain is in ASCII form, so the server needs SMTPUTF8 only for non-ASCII characters before the @.
    return Address(found.display_name or "", found.local_part or "", found.ascii_domain)


def check_sender(text: str) -> str:
    """Return a valid sender unchanged. Raises ValueError for an invalid sender."""
    try:
        parse_address(text, may_have_name=True)
    except ValueError as error:
        raise ValueError(f"{error}; allowed: 'shop@example.com' or 'Shop <shop@example.com>'") from None
    return text


def read_recipient(text: str) -> str:
    """Return the address in the form that a header needs. Raises the same ValueError as ``parse_address``."""
    # In most addresses, only the domain needs a thorough check, and the result of this check is cached.
    domain = plain_domain(text)
    if domain is not None and _is_plain_domain(domain):
        return text
    return parse_address(text).addr_spec


@lru_cache(maxsize=4096)
def _is_plain_domain(domain: str) -> bool:
    """Return True if addresses in this domain are valid and in normal form."""
    try:
        found = validate_mailbox(f"a@{domain}", globally_deliverable=False)
    except ValueError:
        return False
    return found.ascii_domain == found.domain == domain


def read_subject(text: str) -> str:
    """Return the subject on one line with single spaces.

    Raises ValueError for a line break, which would start another header, and for an encoded word (RFC 2047), which mail
    programs would decode.
    """
    if len(f"{text}.".splitlines()) > 1:
        raise ValueError("contains a line break")
    subject = " ".join(text.split())
    if not subject.isprintable():
        subject = "".join(c if c.isprintable() else " " for c in subject)
    if word := ENCODED_WORD.search(subject):
        raise ValueError(f"contains an encoded word (RFC 2047), {word[0][:MAX_SHOWN]!r}; allowed: plain text")
    return subject


def compose(message: Message, sender: str, recipient: str, subject: str, text: str) -> Email:
    """Return the e-mail for an event.

    The same event always results in the same e-mail. Raises Reject for an invalid recipient or subject.
    """
    where = f"message {message.id or 'without id'}"
    try:
        address = read_recipient(recipient)
    except ValueError as error:
        raise Reject(f"{where}: customer_email: {recipient!r} {error}") from None
    try:
        subject = read_subject(subject)
    except ValueError as error:
        raise Reject(f"{where}: the e-mail subject {subject[:MAX_SHOWN]!r} {error}") from None
    return Email(
        sender=sender,
        recipient=address,
        subject=subject,
        # JSON may contain a lone surrogate, which no character set can encode.
        text=text.encode(errors="replace").decode(),
        date=formatdate(seconds_of(message.timestamp)),
        token=_token(message),
        event=message.type,
    )


def _token(message: Message) -> str:
    """Return the event's id, or a hash if the id is not allowed in a Message-ID. Duplicates have the same token."""
    if TOKEN.fullmatch(message.id):
        return message.id
    return hashlib.sha256(message.id.encode(errors="replace") + message.body).hexdigest()
