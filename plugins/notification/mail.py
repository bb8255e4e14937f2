"""One e-mail: its headers cannot be forged by what an event says."""

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

#: An event's id that a Message-ID may hold as it is.
TOKEN = re.compile(r"[A-Za-z0-9-]{1,128}")
#: Characters of a subject that an error repeats.
MAX_SHOWN = 200


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


def parse_address(text: str, *, may_have_name: bool = False) -> Address:
    """Return one address. Raises ValueError as ``validate_mailbox`` does."""
    # Imported here because the options are also checked by programs that never send an e-mail.
    from email.headerregistry import Address

    found = validate_mailbox(text, globally_deliverable=False, allow_display_name=may_have_name)
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
    # Of most addresses only the domain needs a closer check, and other addresses have the same one.
    domain = plain_domain(text)
    if domain is not None and _is_plain_domain(domain):
        return text
    return parse_address(text).addr_spec


@lru_cache(maxsize=4096)
def _is_plain_domain(domain: str) -> bool:
    """Return True if an address there is one, and in its normal form, if its part before the @ is."""
    try:
        found = validate_mailbox(f"a@{domain}", globally_deliverable=False)
    except ValueError:
        return False
    return found.ascii_domain == found.domain == domain


def read_subject(text: str) -> str:
    """Return the subject on one line, single-spaced. Raises ValueError if a part of it would be more than text.

    A line break begins another header, and an encoded word (RFC 2047) is decoded by the reader's mail program.
    """
    if len(f"{text}.".splitlines()) > 1:
        raise ValueError("holds a line break")
    subject = " ".join(text.split())
    if not subject.isprintable():
        subject = "".join(c if c.isprintable() else " " for c in subject)
    if word := ENCODED_WORD.search(subject):
        raise ValueError(f"holds an encoded word (RFC 2047), {word[0][:MAX_SHOWN]!r}; allowed: the text itself")
    return subject


def compose(message: Message, sender: str, recipient: str, subject: str, text: str) -> Email:
    """Make the e-mail; the same event always gives the same one. Raises Reject for a bad recipient or subject."""
    where = f"message {message.id or 'without id'}"
    try:
        address = read_recipient(recipient)
    except ValueError as error:
        raise Reject(f"{where}: customer_email: {recipient!r} {error}") from None
    try:
        subject = read_subject(subject)
    except ValueError as error:
        raise Reject(f"{where}: the subject of its e-mail, {subject[:MAX_SHOWN]!r}, {error}") from None
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
