"""Escaping of untrusted text for terminals, logs and databases.

These characters are escaped:

- control characters (Unicode categories Cc, Zl, Zp), which terminals interpret as commands
- format characters (Cf), which reorder or hide adjacent text (UTR #36, section 2.10)
- surrogates, private-use and unassigned characters (Cs, Co, Cn), which fonts do not display

All output for people uses these functions, so that an id looks the same in log lines, tables and errors.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any

#: The maximum number of characters in an indexed column. PostgreSQL limits an index entry to 2,700 bytes.
MOST_INDEXED = 255


def is_harmless(character: str) -> bool:
    """Return True if a character does not need to be escaped. Spaces of any width are harmless."""
    return character.isprintable() or unicodedata.category(character) == "Zs"


def escaped(text: str) -> str:
    r"""Escape harmful characters in Python's notation, such as ``\u202e``. Tabs and line feeds are kept."""
    return _replaced(text, "\t\n", _as_python)


def one_line(text: str) -> str:
    """Escape harmful characters, tabs and line feeds in Python's notation."""
    return _replaced(text, "", _as_python)


def escaped_json(text: str) -> str:
    """Escape harmful characters in the strings of a JSON document. The document keeps its value and its line feeds."""
    return _replaced(text, "\n", _as_json)


def json_text(data: Any, *, indent: int | None = None) -> str:
    """Return data as readable JSON. Harmful characters are escaped, but other non-ASCII characters are not."""
    text = json.dumps(data, ensure_ascii=False, indent=indent, allow_nan=False)
    return escaped_json(text)


def escaped_yaml(text: str) -> str:
    """Escape harmful characters in a double-quoted YAML 1.1 scalar, without changing the value of the scalar."""
    return _replaced(text, "", _as_yaml)


def storable(text: str, most: int | None = None) -> str:
    """Return ``text`` in a form that a database column accepts, truncated to ``most`` characters.

    PostgreSQL does not accept NUL, and UTF-8 cannot encode lone surrogates.
    """
    found = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return found if most is None or len(found) <= most else found[: most - 1] + "…"


def _replaced(text: str, kept: str, written: Callable[[str], str]) -> str:
    # Nearly all text is harmless, so a fast check comes first.
    if text.isprintable():
        return text
    return "".join([one if one in kept or is_harmless(one) else written(one) for one in text])


def _as_python(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _as_json(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    # JSON represents a character above U+FFFF as a surrogate pair (RFC 8259, section 7).
    return f"\\u{0xD7C0 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _as_yaml(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
