"""The forms of numbers, times and personal data in the pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

#: A value that does not exist.
MISSING = "\N{EN DASH}"
#: The maximum number of characters of a line of a log or an output, which can contain a whole message.
MAX_CHARACTERS = 4000
_ADDRESS = re.compile(r"([^\s\"'<>(),:;@]{0,64})@([^\s\"'<>(),:;@]+\.?[^\s\"'<>(),:;@]*)")


def number(value: float | None) -> str:
    """Return a number with a separator for thousands, such as ``1,204``."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def rate(value: float | None) -> str:
    """Return a rate with one decimal below 100, such as ``8.0``."""
    if value is None:
        return MISSING
    return f"{value:,.1f}" if 0 < value < 100 else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Return a duration, such as ``8 ms``, ``1.01 s``, ``45 s`` or ``2 h 14 min``."""
    if seconds is None:
        return MISSING
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days"


def uptime(seconds: float | None) -> str:
    """Return a long duration in whole units, such as ``7 s``, ``12 min`` or ``2 h 14 min``."""
    return duration(seconds) if seconds is None or seconds >= 10 else f"{max(0, int(seconds))} s"


def percent(value: float | None) -> str:
    """Return a percentage with one decimal, such as ``0.4 %``."""
    return MISSING if value is None else f"{value:.1f} %"


def mebibytes(count: int | None) -> str:
    """Return a size in bytes as mebibytes, such as ``49 MiB``."""
    return MISSING if count is None else f"{count / 2**20:.0f} MiB"


def clock(seconds: float | None) -> str:
    """Return a time in seconds since the epoch as local time, such as ``14:02:18``."""
    return MISSING if seconds is None else datetime.fromtimestamp(seconds).strftime("%H:%M:%S")


def cut_line(text: str) -> str:
    """Return a line with at most ``MAX_CHARACTERS``, and the number of characters that are missing."""
    left = len(text) - MAX_CHARACTERS
    return text if left <= 0 else f"{text[:MAX_CHARACTERS]}… and {left:,} more characters"


def masked(value: Any) -> Any:
    """Return a text in which e-mail addresses are masked, such as ``a•••@•••``. Other values are returned as they are.

    Lists and objects are masked value by value.
    """
    if isinstance(value, str):
        return _ADDRESS.sub(lambda match: f"{match[1][:1]}•••@•••", value)
    if isinstance(value, dict):
        return {name: masked(one) for name, one in value.items()}
    return [masked(one) for one in value] if isinstance(value, list) else value


FILTERS: dict[str, Callable[..., str]] = {
    "number": number, "rate": rate, "duration": duration, "uptime": uptime, "percent": percent,
    "mebibytes": mebibytes, "clock": clock,
}  # fmt: skip
