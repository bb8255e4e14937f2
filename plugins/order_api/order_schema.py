"""The JSON Schema of an order, made of the same tables and limits that the API checks.

Of addresses the schema has those in ASCII. The API also accepts those of RFC 6531, for which no pattern is exact.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from email_validator import SPECIAL_USE_DOMAIN_NAMES

from runner.mailbox import ENCODED_WORD, MAX_ADDRESS, MAX_LOCAL_PART

from .order import AMOUNT, MAX_AMOUNT, MINOR_UNITS, REGION, Order

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
#: RFC 1123, section 2.1; two letters and two hyphens begin a label of RFC 5890, which needs a closer check.
_LABEL = r"(?![A-Za-z0-9]{2}--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"


def _address() -> dict[str, Any]:
    # email_validator refuses them, and all below them; those below .test may be used for trying things out.
    reserved = "|".join(name.replace(".", r"\.") for name in sorted(SPECIAL_USE_DOMAIN_NAMES) if name != "test")
    pattern = (
        rf"^(?!.*{ENCODED_WORD.pattern})(?=[^@]{{1,{MAX_LOCAL_PART}}}@)(?!.*[@.](?:{_either_case(reserved)})$)"
        rf"{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+(?![A-Za-z]{{2}}--)[A-Za-z]{{2,63}}$"
    )
    return {
        "type": "string",
        "format": "email",
        "maxLength": MAX_ADDRESS,
        "pattern": pattern,
        "description": "One address (RFC 5321). Addresses beyond ASCII (RFC 6531) are accepted too, which this pattern "
        "does not show.",
    }


def _either_case(text: str) -> str:
    return "".join(f"[{one.upper()}{one}]" if one.isalpha() else one for one in text)


def _amount(places: int) -> dict[str, Any]:
    unit = 10**-places if places else 1
    fraction = rf"(?:\.[0-9]{{1,{places}}}0*)?" if places else r"(?:\.0+)?"
    below, most = f"[0-9]{{1,{len(str(MAX_AMOUNT)) - 1}}}{fraction}", rf"{MAX_AMOUNT}(?:\.0+)?"
    text = rf"^(?={AMOUNT.pattern}$)(?![0.]+$)0*(?:{below}|{most})$"
    return {
        "anyOf": [
            {"type": "number", "minimum": unit, "maximum": MAX_AMOUNT, "multipleOf": unit},
            {"type": "string", "pattern": text},
        ]
    }


def _of_currencies(places: int, codes: list[str]) -> dict[str, Any]:
    pattern = "|".join(_either_case(code.lower()) for code in sorted(codes))
    return {"properties": {"currency": {"pattern": f"^(?:{pattern})$"}, "amount": _amount(places)}}


def order_schema() -> dict[str, Any]:
    """Return the JSON Schema of an order."""
    by_places: dict[int, list[str]] = defaultdict(list)
    for code, places in MINOR_UNITS.items():
        by_places[places].append(code)
    return {
        "type": "object",
        "required": [name for name, field in Order.model_fields.items() if field.is_required()],
        "additionalProperties": False,
        "properties": {
            "customer_email": _address(),
            "amount": {
                "type": ["number", "string"],
                "description": "With at most as many decimal places as its currency has. Never read as a binary float.",
            },
            "currency": {
                "type": "string",
                "description": "An active ISO 4217 code that has a minor unit, in either case.",
            },
            "region": {"type": ["string", "null"], "pattern": f"^{REGION.pattern}$"},
        },
        "anyOf": [_of_currencies(places, codes) for places, codes in sorted(by_places.items())],
        "examples": [
            {"customer_email": "alice@example.com", "amount": "149.99", "currency": "USD"},
            {"customer_email": "bob@example.com", "amount": 20, "currency": "eur", "region": "emea"},
        ],
    }
