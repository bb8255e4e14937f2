"""Barriers that axe-core finds in a page."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

AXE = Path(__file__).parent / "vendor" / "axe.min.js"


@cache
def _source() -> str:
    return AXE.read_text("utf-8")


def find_violations(page: Page, selector: str = "body") -> list[str]:
    """Return a line for each element that breaks a rule of axe-core, in the part of the page at ``selector``.

    Raises AssertionError if axe-core checked nothing.
    """
    # The protocol of the browser runs the text. A script element would break the page's Content-Security-Policy.
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(_source())
    found: dict[str, Any] = page.evaluate(
        """async (selector) => {
            const {passes, violations} = await axe.run(selector, {resultTypes: ['violations']})
            return {passed: passes.length, violations}
        }""",
        selector,
    )
    assert found["passed"], f"axe-core checked nothing at {selector!r}"
    return [
        f"{rule['id']} ({node['impact']}): {' '.join(node['failureSummary'].split())}: {node['html']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
