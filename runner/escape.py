"""Text that others wrote, escaped for a terminal, a log, a database and their readers.

Escaped are control characters, which a terminal obeys, format characters, which reorder or hide what stands beside
them (UTR #36, section 2.10; Unicode categories Cc, Cf, Zl, Zp), and what no font shows (Cs, Co, Cn). All that prints
for people uses these functions, so that one id looks the same in a log line, a table and an error.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any

#: Characters of what stands in an index, of which PostgreSQL takes 2,700 bytes at most.
MOST_INDEXED = 255


def is_harmless(character: str) -> bool:
    """Return True for a character that only shows itself; spaces of any width are among them."""
    return character.isprintable() or unicodedata.category(character) == "Zs"


def escaped(text: str) -> str:
    """Write what is not harmless as Python does, U+202E as ``u202e`` behind a backslash; tabs and line ends stay."""
    return _replaced(text, "\t\n", _as_python)


def one_line(text: str) -> str:
    """Write what is not harmless as Python does, tabs and line ends included."""
    return _replaced(text, "", _as_python)


def escaped_json(text: str) -> str:
    """Escape within the texts of a JSON document, so that it stays the same document; its line ends stay."""
    return _replaced(text, "\n", _as_json)


def json_text(data: Any, *, indent: int | None = None) -> str:
    """JSON as people read it: other alphabets as they are, control characters as escapes."""
    text = json.dumps(data, ensure_ascii=False, indent=indent, allow_nan=False)
    return escaped_json(text)


def escaped_yaml(text: str) -> str:
    """Escape within a double-quoted text of YAML 1.1, so that it stays the same text."""
    return _replaced(text, "", _as_yaml)


def storable(text: str, most: int | None = None) -> str:
    """``text`` without what no text column takes, cut to ``most`` characters.

    PostgreSQL has no NUL, and UTF-8 no lone surrogates.
    """
    found = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return found if most is None or len(found) <= most else found[: most - 1] + "…"


def _replaced(text: str, kept: str, written: Callable[[str], str]) -> str:
    # Nearly all text is harmless, and to find that out costs next to nothing.
    if text.isprintable():
        return text
    return "".join([one if one in kept or is_harmless(one) else written(one) for one in text])


def _as_python(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _as_json(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    # A pair of surrogates (RFC 8259, section 7).
    return f"\\u{0xD7C0 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _as_yaml(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
