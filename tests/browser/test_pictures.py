"""The pictures of three public topologies and of a shop with 60 queues can be read in a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from runner.topology.picture.layout import WIDTH, layout
from runner.topology.picture.picture_style import page_style
from runner.topology.picture.svg_writer import svg_part
from tests.browser.label_check import find_unreadable
from tests.pictured import PUBLIC, public, shop
from tests.running import ROOT

STYLE = (ROOT / "runner" / "dashboard" / "static" / "page.css").read_text("utf-8") + page_style()
SIZES = ((1280, 800), (1920, 1080))


@pytest.mark.parametrize("name", ["shop", *PUBLIC])
def test_no_label_of_a_picture_is_cut_or_overlaps_another(
    open_page: Callable[..., Page], screenshot: Callable[[Page, str], Path], name: str
) -> None:
    graph = shop() if name == "shop" else public(name)
    picture = svg_part(layout(graph, is_live=True), {}, name, WIDTH)
    for scheme in ("light", "dark"):
        page = open_page(scheme=scheme)
        page.set_content(
            f'<!doctype html><html lang="en"><head><title>{name}</title></head><body><main>'
            f'<div class="card stage"><div class="stage-picture">{picture}</div></div></main></body></html>'
        )
        page.add_style_tag(content=STYLE)
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            screenshot(page, f"{name}-{width}-{scheme}")
            assert page.locator("[data-node]").count() >= len(PUBLIC)
            assert find_unreadable(page) == []
