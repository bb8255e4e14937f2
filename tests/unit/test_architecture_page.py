"""docs/architecture.md: each file that its tables name is in the named room."""

from __future__ import annotations

import re

from tests.running import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| ") and line.count("|") >= 3]
FILE = re.compile(r"`([\w/]+\.(?:py|sh))`")


def test_each_file_of_a_room_is_in_that_room() -> None:
    found = 0
    for place, text, *_ in ROWS:
        rooms = [
            ROOT / one for one in re.findall(r"`((?:runner|deploy|plugins)/[\w/]*)`", place) if (ROOT / one).is_dir()
        ]
        for name in FILE.findall(text) if rooms else ():
            found += 1
            assert any((room / name).exists() for room in rooms), f"{place.strip()}: {name}"
    assert found > 60


def test_each_module_that_is_named_by_its_path_exists() -> None:
    named = {name for name in FILE.findall(PAGE) if "/" in name}
    assert len(named) > 20
    there = [ROOT, ROOT / "runner"]
    assert [name for name in sorted(named) if not any((room / name).exists() for room in there)] == []


def test_each_room_of_the_product_has_a_row() -> None:
    rooms = {path.name for path in (ROOT / "runner").iterdir() if (path / "__init__.py").exists()}
    places = " ".join(place for place, *_ in ROWS)
    assert [room for room in sorted(rooms) if f"`runner/{room}/`" not in places and f"`{room}/`" not in places] == []
