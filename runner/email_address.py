"""The rules for e-mail addresses, which the order API and the ``notification`` plugin share (RFC 5321, RFC 6531).

The rules are shared so that the API accepts only addresses to which the plugin can send e-mail.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from email_validator import ValidatedEmail

#: The maximum number of octets in an address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
MAX_ADDRESS = 254
#: The maximum number of octets before the @ (RFC 5321, section 4.5.3.1.1).
MAX_LOCAL_PART = 64
#: The start of an encoded word, with its character set and encoding (RFC 2047, section 2). Mail programs decode
#: encoded words in addresses and subjects, and the result may be another address or several addresses. Lenient programs
#: also decode an encoded word that has no end or contains spaces.
ENCODED_WORD = re.compile(r"=\?[^?]*\?[BbQq]\?")
#: A lower-case dot-atom before the @ (RFC 5322, section 3.2.3), which email_validator leaves unchanged.
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PLAIN = re.compile(rf"(?=[^@]{{1,{MAX_LOCAL_PART}}}@){_ATOM}(?:\.{_ATOM})*@([a-z0-9.-]+)")


def has_encoded_word(text: str) -> bool:
    """Return True if a mail program might decode part of the text."""
    return "=?" in text and ENCODED_WORD.search(text) is not None


def plain_domain(address: str) -> str | None:
    """Return the domain of a plain address, or None if the address needs a closer check."""
    plain = _PLAIN.fullmatch(address)
    if plain is None or len(address) > MAX_ADDRESS or has_encoded_word(address):
        return None
    return plain[1]


def validate_mailbox(address: str, **rules: Any) -> ValidatedEmail:
    """Validate one e-mail address without network access, and return the parts of the address.

    ``rules`` are passed to email_validator. Raises ValueError if the text is not exactly one address, is too long, or
    contains control characters, format characters or the start of an encoded word.
    """
    # Imported here, because this import takes as long as all other imports of a worker combined.
    from email_validator import EmailNotValidError, validate_email

    if not address.isprintable():
        raise ValueError("contains control characters")
    if has_encoded_word(address):
        raise ValueError("contains an encoded word (RFC 2047)")
    try:
        found = validate_email(address, check_deliverability=False, **rules)
    except EmailNotValidError as error:
        raise ValueError(f"is not a single e-mail address: {error}") from None
    # Normalization can change both the characters and the length.
    for local_part in (found.original.rpartition("@")[0], found.local_part or ""):
        if len(local_part.encode()) > MAX_LOCAL_PART:
            raise ValueError(f"is too long before the @; allowed: up to {MAX_LOCAL_PART} octets")
    if not found.normalized.isprintable() or has_encoded_word(found.normalized):
        raise ValueError("contains characters that are not allowed in an address")
    return found


def check_address(value: Any) -> str:
    """Return an address in normal form, without network access. Raises ValueError if the value is not an address."""
    if not isinstance(value, str):
        raise PydanticCustomError("address", "must be a string with one e-mail address")
    # Most addresses are plain. Only the domain needs a closer check, and many addresses share a domain.
    domain = plain_domain(value)
    if domain is not None and _is_plain_domain(domain):
        return value
    address = _normal_form(value)
    if not address:
        # pydantic would put "Value error" before the message of a ValueError.
        raise PydanticCustomError("address", "must be one e-mail address, such as alice@example.com")
    return address


@lru_cache(maxsize=4096)
def _is_plain_domain(domain: str) -> bool:
    """Return True if addresses in this domain are valid and in normal form."""
    return _normal_form(f"a@{domain}") == f"a@{domain}"


def _normal_form(address: str) -> str:
    """Return an address in normal form, or an empty string if the text is not an address."""
    try:
        # ``test_environment`` allows the domain .test, which RFC 2606 reserves for tests.
        return str(validate_mailbox(address, test_environment=True).normalized)
    except ValueError:
        return ""


class _AddressSchema:
    """The JSON Schema of an ASCII address. No pattern matches the addresses of RFC 6531 exactly."""

    def __get_pydantic_json_schema__(self, *_: object) -> dict[str, Any]:
        from email_validator import SPECIAL_USE_DOMAIN_NAMES

        # email_validator refuses these domains and their subdomains. Addresses in .test are allowed for tests.
        reserved = "|".join(name.replace(".", r"\.") for name in sorted(SPECIAL_USE_DOMAIN_NAMES) if name != "test")
        either_case = "".join(f"[{one.upper()}{one}]" if one.isalpha() else one for one in reserved)
        atom = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
        # RFC 1123, section 2.1. The pattern refuses labels such as ``xn--…`` (RFC 5890), which need a closer check.
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
            "description": "One e-mail address (RFC 5321). Non-ASCII addresses (RFC 6531) are also accepted, although "
            "they do not match this pattern.",
        }


#: The type of a pydantic field that contains one e-mail address in normal form.
EmailAddress = Annotated[str, BeforeValidator(check_address), _AddressSchema()]
