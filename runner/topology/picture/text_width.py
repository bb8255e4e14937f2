"""The width of text in DejaVu Sans, the widest of the usual system fonts, and the names that are too long to show."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from runner.escape import one_line

#: The size of each kind of text in pixels.
NAME, DETAIL, FIGURE = 12.5, 11.0, 15.0
#: Names up to this number of characters are always shown whole.
WHOLE_NAME = 30

#: The widths of the characters from space to ~ in thousandths of the font size, from the hmtx table of each font.
_REGULAR = (
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636, 636, 636,
    636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656, 557, 863,
    748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635,
    615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636,
    337, 636, 838,
)  # fmt: skip
_BOLD = (
    348, 456, 521, 838, 696, 1002, 872, 306, 457, 457, 523, 838, 380, 415, 380, 365, 696, 696, 696, 696, 696, 696, 696,
    696, 696, 696, 400, 400, 838, 838, 838, 580, 1000, 774, 762, 734, 830, 683, 683, 821, 837, 372, 372, 775, 637, 995,
    837, 850, 733, 850, 770, 720, 682, 812, 774, 1103, 771, 724, 725, 457, 365, 457, 838, 500, 500, 675, 716, 593, 716,
    678, 435, 716, 712, 343, 343, 665, 343, 1042, 712, 687, 716, 716, 493, 595, 478, 712, 652, 924, 645, 652, 582, 712,
    365, 712, 838,
)  # fmt: skip
_MONOSPACE = 602
#: The width of an East Asian wide character, and of any other character outside ASCII.
_WIDE, _OTHER = 1050, 1000


@lru_cache(maxsize=4096)
def width_of(text: str, size: float = NAME, *, bold: bool = False, monospace: bool = False) -> float:
    """Return the width of a text in pixels at a font size in pixels."""
    return sum(_character(one, bold, monospace) for one in text) * size / 1000


def _character(one: str, bold: bool, monospace: bool) -> int:
    if " " <= one <= "~":
        return _MONOSPACE if monospace else (_BOLD if bold else _REGULAR)[ord(one) - 32]
    if unicodedata.category(one) in ("Mn", "Me", "Cf"):
        return 0
    if unicodedata.east_asian_width(one) in "WF":
        return _WIDE
    return _MONOSPACE if monospace and one == "…" else _OTHER


def short_name(name: str, most: int = WHOLE_NAME) -> str:
    """Return a name of at most ``most`` characters, without control characters.

    A longer name keeps its first segment and its last two segments, because queues differ in these segments.
    """
    name = one_line(name)
    if len(name) <= most:
        return name
    parts = name.split(".")
    if len(parts) > 3:
        short = f"{parts[0]}.…{'.'.join(parts[-2:])}"
        if len(short) <= most:
            return short
    head = (most - 1) // 2
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def wrapped(name: str, width: float) -> list[str]:
    """Return a short name in bold as one line, or as two lines if one line is wider than ``width`` in pixels."""
    short = short_name(name)
    places = [number + 1 for number, one in enumerate(short[:-1]) if one in "._-:/"]
    if width_of(short, NAME, bold=True) <= width or not places:
        return [short]
    place = min(places, key=lambda at: abs(width_of(short[:at], bold=True) - width_of(short[at:], bold=True)))
    return [short[:place], short[place:]]


def fitted(text: str, width: float, size: float = NAME, *, bold: bool = False, monospace: bool = False) -> str:
    """Return the longest short form of a text that fits into a width in pixels."""
    most = max(len(text), 4)
    while most > 4 and width_of(short_name(text, most), size, bold=bold, monospace=monospace) > width:
        most -= 1
    return short_name(text, most)
