"""The site of ``make docs``: it has all pages, and needs no other server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from deploy.documentation_site import SOURCE, finish, on_site, pages, prepare
from tests.running import ROOT


def test_the_navigation_has_each_page_once() -> None:
    settings = yaml.safe_load((SOURCE / "mkdocs.yml").read_text("utf-8"))
    listed = re.findall(r"[\w-]+\.md", str(settings["nav"]))
    assert sorted(listed) == sorted(pages())


def test_every_link_of_a_page_leads_to_a_part_of_the_site(tmp_path: Path) -> None:
    configuration = prepare(tmp_path)
    docs = configuration.parent / "docs"
    for name in pages():
        text = re.sub(r"^( *)```.*?^\1```$", "", (docs / name).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        links = re.findall(r"\]\(([^)#\s]+)", text)
        assert [link for link in links if not link.startswith("http") and not (docs / link).is_file()] == []


def test_a_link_keeps_its_anchor_and_a_link_to_code_becomes_text(tmp_path: Path) -> None:
    assert "[Linux with Python and make](index.md#quick-start)" in on_site(ROOT / "docs" / "learning.md")
    assert "](../" not in on_site(ROOT / "docs" / "tour.md")
    assert "`api.py:" in on_site(ROOT / "docs" / "tour.md")


def test_a_sample_is_unchanged() -> None:
    def samples(text: str) -> list[str]:
        return re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)

    for source in pages().values():
        assert samples(on_site(source)) == samples(source.read_text("utf-8"))


def test_a_finished_page_loads_nothing_from_another_server(tmp_path: Path) -> None:
    page = tmp_path / "a" / "page.html"
    page.parent.mkdir()
    page.write_text(
        '<script src="https://unpkg.com/iframe-worker/shim"></script><a href="https://www.rabbitmq.com">x</a>'
    )
    finish(tmp_path)
    assert page.read_text() == '<script src="../iframe-worker.js"></script><a href="https://www.rabbitmq.com">x</a>'
    page.write_text('<link rel="stylesheet" href="https://fonts.example/css">')
    with pytest.raises(SystemExit, match=r"page\.html: loads from another server"):
        finish(tmp_path)
