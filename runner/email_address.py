"""E-mail addresses: the rules that the order API and the e-mails share (RFC 5321, RFC 6531).

Apart from both, since an address that the API accepts must be one that an e-mail can be sent to.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

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


def check_address(value: Any) -> str:
    """Return the normal form of an address. Raises ValueError; nothing is looked up on the network."""
    if not isinstance(value, str):
        raise PydanticCustomError("address", "must be a string holding one e-mail address")
    # Of most addresses only the domain needs a closer check, and other addresses have the same one.
    domain = plain_domain(value)
    if domain is not None and _is_plain_domain(domain):
        return value
    address = _normal_form(value)
    if not address:
        # Unlike a ValueError it keeps these words as they are.
        raise PydanticCustomError("address", "must be one e-mail address, such as alice@example.com")
    return address


@lru_cache(maxsize=4096)
def _is_plain_domain(domain: str) -> bool:
    """Return True if an address there is one, and in its normal form, if its part before the @ is."""
    return _normal_form(f"a@{domain}") == f"a@{domain}"


def _normal_form(address: str) -> str:
    """Return the address as email_validator normalizes it, or an empty string if it is none."""
    try:
        # "test environment" allows addresses below .test, as RFC 2606 has them for trying things out.
        return str(validate_mailbox(address, test_environment=True).normalized)
    except ValueError:
        return ""


class _AddressSchema:
    """Describes addresses in a JSON Schema, in ASCII: no pattern is exact for those of RFC 6531."""

    def __get_pydantic_json_schema__(self, *_: object) -> dict[str, Any]:
        from email_validator import SPECIAL_USE_DOMAIN_NAMES

        # email_validator refuses them, and all below them; those below .test may be used for trying things out.
        reserved = "|".join(name.replace(".", r"\.") for name in sorted(SPECIAL_USE_DOMAIN_NAMES) if name != "test")
        either_case = "".join(f"[{one.upper()}{one}]" if one.isalpha() else one for one in reserved)
        atom = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
        # RFC 1123, section 2.1; two letters and two hyphens begin a label of RFC 5890, which needs a closer check.
        label = r"(?![A-Za-z0-9]{2}--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
        pattern = (
            rf"^(?!.*{ENCODED_WORD.pattern})(?=[^@]{{1,{MAX_LOCAL_PART}}}@)(?!.*[@.](?:{either_case})$)"
            rf"{atom}(?:\.{atom})*@(?:{label}\.)+(?![A-Za-z]{{2}}--)[A-Za-z]{{2,63}}$"
        )
        return {
            "type": "string",
            "format": "email",
            "maxLength": MAX_ADDRESS,
            "pattern": pattern,
            "description": "One address (RFC 5321). Addresses beyond ASCII (RFC 6531) are accepted too, which this "
            "pattern does not show.",
        }


#: A field of a pydantic model: one e-mail address, in its normal form.
EmailAddress = Annotated[str, BeforeValidator(check_address), _AddressSchema()]
