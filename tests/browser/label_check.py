"""Texts of a page that people cannot read: texts that are cut or covered, or that overlap other texts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from playwright.sync_api import Page

#: Pixels by which a text may leave its box, because fonts are rounded to whole pixels.
TOLERANCE = 1.5


SCRIPT = Path(__file__).parent / "labels.js"


@cache
def _source() -> str:
    return SCRIPT.read_text("utf-8")


def find_unreadable(page: Page) -> list[str]:
    """Return a sentence for each text of the page that is cut or covered, overlaps another text, or leaves its node.

    A text may be cut if a ``title`` contains the whole text, or if a person can scroll to the rest. A text may be
    behind a positioned element, such as a menu. While a modal dialog is open, only its texts count. Another sentence
    names a page that is wider than its window.
    """
    found: list[str] = page.evaluate(_source(), TOLERANCE)
    return found
