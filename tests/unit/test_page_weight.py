"""The files of the dashboard are light, and contain no script or style that a strict policy refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.running import ROOT

FOLDER = ROOT / "runner" / "dashboard"
STATIC = FOLDER / "static"
#: Bytes: all files that a browser may load, and the stylesheet.
MOST, MOST_STYLE = 150_000, 25_600
TEMPLATES = sorted((FOLDER / "templates").glob("*.html"))


def test_all_files_that_a_browser_loads_weigh_little() -> None:
    sizes = {path.name: path.stat().st_size for path in STATIC.rglob("*") if path.suffix in (".js", ".css", ".svg")}
    assert sizes["page.css"] <= MOST_STYLE
    assert sum(sizes.values()) <= MOST, sizes


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_script_or_style_in_its_markup(template: Path) -> None:
    text = template.read_text("utf-8")
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", text) == []
    assert [tag for tag in re.findall(r"<script[^>]*>", text) if " src=" not in tag] == []


def test_no_script_writes_data_as_markup_or_evaluates_text() -> None:
    pattern = re.compile(r"innerHTML\s*=|insertAdjacentHTML|document\.write|\beval\(|new Function")
    for path in STATIC.glob("*.js"):
        assert pattern.findall(path.read_text("utf-8")) == [], path.name
