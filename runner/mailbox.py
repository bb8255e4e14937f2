"""E-mail addresses: the rules that the order API and the e-mails share (RFC 5321, RFC 6531).

Apart from both, since an address that the API accepts must be one that an e-mail can be sent to.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from email_validator import ValidatedEmail

#: Octets of an address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
MAX_ADDRESS = 254
#: Octets before the @ (RFC 5321, section 4.5.3.1.1).
MAX_LOCAL_PART = 64
#: The beginning of an encoded word, with its character set and encoding (RFC 2047, section 2). An address and a subject
#: may have these characters, but mail programs decode the word, and then the address is another one, or several.
#: Lenient ones decode a word without its end, or with spaces in it.
ENCODED_WORD = re.compile(r"=\?[^?]*\?[BbQq]\?")
#: The part before the @ is a dot-atom (RFC 5322, section 3.2.3) in lower case, which email_validator leaves unchanged.
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PLAIN = re.compile(rf"(?=[^@]{{1,{MAX_LOCAL_PART}}}@){_ATOM}(?:\.{_ATOM})*@([a-z0-9.-]+)")


def has_encoded_word(text: str) -> bool:
    """Return True for a text that a mail program would decode, a part of it at least."""
    return "=?" in text and ENCODED_WORD.search(text) is not None


def plain_domain(address: str) -> str | None:
    """Return the domain of an address whose other parts need no closer check; None for all other addresses."""
    plain = _PLAIN.fullmatch(address)
    if plain is None or len(address) > MAX_ADDRESS or has_encoded_word(address):
        return None
    return plain[1]


def validate_mailbox(address: str, **rules: Any) -> ValidatedEmail:
    """Return the parts of one address; ``rules`` are those of email_validator. Nothing is looked up on the network.

    Raises ValueError with the reason: no address, several addresses, one that is too long, one with control or format
    characters, or one that begins an encoded word.
    """
    # Imported here because it takes as long as all else that a worker imports.
    from email_validator import EmailNotValidError, validate_email

    if not address.isprintable():
        raise ValueError("holds control characters")
    if has_encoded_word(address):
        raise ValueError("holds an encoded word (RFC 2047)")
    try:
        found = validate_email(address, check_deliverability=False, **rules)
    except EmailNotValidError as error:
        raise ValueError(f"is not one e-mail address, {error}") from None
    # Normalization can change both the characters and the length.
    for local_part in (found.original.rpartition("@")[0], found.local_part or ""):
        if len(local_part.encode()) > MAX_LOCAL_PART:
            raise ValueError(f"is too long before the @; allowed: {MAX_LOCAL_PART} octets")
    if not found.normalized.isprintable() or has_encoded_word(found.normalized):
        raise ValueError("holds characters that no address has")
    return found
