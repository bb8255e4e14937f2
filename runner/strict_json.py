"""Strict JSON encoding and decoding, for bodies that all readers interpret in the same way.

Numbers with a fraction are read as ``Decimal``, and ``Decimal`` is written as a string. Therefore, amounts of money
never become binary floats.
"""

from __future__ import annotations

import codecs
import json
import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any


def _encode_value(value: object) -> str:
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError(f"event body: {value} is not JSON; allowed: finite numbers")
    if isinstance(value, Decimal | uuid.UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"event body: cannot be written as JSON, {value!r}; allowed: JSON types, Decimal, UUID, datetime")


def encode_json(body: object) -> bytes:
    """Return ``body`` as compact JSON in UTF-8. Decimal, UUID and datetime become strings.

    Raises TypeError for other types. Raises ValueError for NaN, for infinities, and for more than 32 levels of nesting.
    """
    try:
        raw = _ENCODER.encode(body).encode()
    except RecursionError:  # the depth limit depends on the Python version
        raise ValueError(f"event body: nested too deeply; allowed: {MAX_DEPTH} levels") from None
    if _may_be_too_deep(raw) and _is_too_deep(body):
        raise ValueError(f"event body: nested too deeply; allowed: {MAX_DEPTH} levels")
    return raw


# If json.dumps or json.loads gets options, each call creates a new encoder or decoder.
_ENCODER = json.JSONEncoder(default=_encode_value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"duplicate key {name!r}")
            seen.add(name)
    return result


_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates)
#: The byte order marks of UTF-8 and UTF-16, which JSON must not contain (RFC 8259, section 8.1).
BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: The maximum depth of nested arrays and objects in a body.
MAX_DEPTH = 32


def _may_be_too_deep(raw: bytes) -> bool:
    # This count includes brackets in strings, so the exact check may run unnecessarily.
    return raw.count(b"{") + raw.count(b"[") > MAX_DEPTH


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [one for one in level if isinstance(one, dict | list | tuple)]
        if not containers:
            return False
        level = [inner for one in containers for inner in (one.values() if isinstance(one, dict) else one)]
    return True


def decode_json(raw: bytes) -> Any:
    """Decode JSON in UTF-8, and return fractions as Decimal.

    Raises ValueError for invalid JSON, NaN, duplicate keys (which RFC 8259 allows), and more than 32 levels of nesting.
    """
    if raw.startswith(BYTE_ORDER_MARKS):
        raise ValueError("a byte order mark is not allowed; send UTF-8 without it")
    try:
        value = _DECODER.decode(raw.decode())
    except RecursionError:
        raise ValueError(f"nested too deeply; allowed: {MAX_DEPTH} levels") from None
    except ArithmeticError:
        raise ValueError("a number is out of range") from None
    if _may_be_too_deep(raw) and _is_too_deep(value):
        raise ValueError(f"nested too deeply; allowed: {MAX_DEPTH} levels")
    return value
