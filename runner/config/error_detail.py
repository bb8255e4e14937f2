"""One thing wrong in a YAML file, and the words for it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, order=True)
class ErrorDetail:
    """``file:line: path: text``, where the text says what is wrong, the value, and what is allowed."""

    file: str
    line: int
    path: str
    text: str

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}: {where}{self.text}"


def dotted(path: Path) -> str:
    """``services.payment.consumes.0``; a key that holds dots itself is quoted."""
    return ".".join(
        str(part) if isinstance(part, int) or _PLAIN_KEY.fullmatch(part) else f'"{_on_one_line(part)}"' for part in path
    )


def _on_one_line(key: str) -> str:
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in key)


def value_at(data: Any, path: Path) -> Any:
    """The value at ``path`` of plain data, or None where there is none."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def shown(value: object) -> str:
    """A value as a fault shows it: on one line, and not longer than 60 characters."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def misspelt(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name that ``name`` is meant for if it differs in a letter or two, or None."""
    return next(iter(difflib.get_close_matches(name, sorted(allowed), n=1, cutoff=0.85)), None)


def one_of(name: str, allowed: Iterable[str]) -> str:
    """``did you mean 'x'?`` where something allowed is close to ``name``, else what is allowed."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if not names:
        return "none is defined"
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"allowed: {listed}"


def unknown(kind: str, name: str, allowed: Iterable[str], shown_name: str | None = None) -> str:
    """The text for a reference to something that is not there; ``shown_name`` where it is not to be shown as it is."""
    return f"unknown {kind} {shown_name or repr(name)}; {one_of(name, allowed)}"
