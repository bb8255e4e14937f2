"""The marks and icons of the page as one piece of markup, so that they stay while the server does not answer."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from markupsafe import Markup

_STATIC = Path(__file__).parent / "static"
#: The files by the prefix of their symbols. Both contain, for example, ``pause``.
_FILES = {"mark": _STATIC / "marks.svg", "icon": _STATIC / "vendor" / "lucide.svg"}


@cache
def sprite() -> Markup:
    """Return all symbols, with ids such as ``mark-run`` and ``icon-pause``."""
    files = (path.read_text("utf-8").replace(' id="', f' id="{prefix}-') for prefix, path in _FILES.items())
    return Markup("".join(text.replace("<svg ", "<svg hidden ", 1) for text in files))  # noqa: S704 - files of this package
