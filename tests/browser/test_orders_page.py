"""The page Orders of a running system: the live list, one order as a swimlane, search, keyboard and hostile texts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.accessibility import find_violations
from tests.browser.label_check import find_unreadable
from tests.browser.page_errors import PageErrors
from tests.browser.running_shop import ADDRESS, HOSTILE, ORDERS, RunningShop


def _sentences(shop: RunningShop, order: str) -> list[str]:
    """Return the sentences of an order's history, as the command prints them."""
    code, output = shop.project.call("order", "history", order, "--json")
    assert code == 0
    return [str(one["what"]) for one in json.loads(output)["history"]]


def test_a_posted_order_appears_in_the_open_list_and_its_page_follows_it(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/orders")
    page.evaluate("window.isSamePage = true")
    order = shop.project.first_order()
    row = page.locator("tr", has=page.locator(f"[title='{order}']"))
    expect(row).to_contain_text("149.99 USD")
    expect(row).to_contain_text("Paid")
    assert page.evaluate("window.isSamePage")
    row.locator("td").nth(4).click()  # any place of the row leads to the order
    page.wait_for_url(f"**/orders/{order}")
    expect(page.locator("h1")).to_have_text(f"Order {order[:8]}")
    expect(page.locator("main .pill")).to_contain_text("Paid after")
    expect(page.locator("[data-region=order-steps] tbody tr")).to_have_count(5)
    expect(page.locator("[data-swimlane] .names")).to_have_count(4)
    expect(page.locator("[data-region=order-step] pre")).to_contain_text("alice@example.com")
    pid = shop.project.slots()["payment.1"]["pid"]
    expect(page.locator("[data-region=order-steps]")).to_contain_text(f"payment.1 {pid}")


def test_the_moves_for_slow_motion_are_the_steps_of_order_history(shop: RunningShop, page: Page) -> None:
    shop.open(page, f"/orders/{ORDERS[0]}")
    link = page.get_by_role("link", name="Slow motion, 1/10 speed")
    assert link.get_attribute("href") == f"/?order={ORDERS[0]}&slow=10"
    moves = page.request.get(f"{shop.url}/orders/{ORDERS[0]}/motion").json()
    assert [one["text"] for one in moves["steps"]] == _sentences(shop, ORDERS[0])
    assert all(move["reason"].endswith(".") for one in moves["steps"] for move in one["moves"])


def test_arrow_keys_move_between_the_bars_and_select_their_steps(shop: RunningShop, page: Page) -> None:
    shop.open(page, f"/orders/{ORDERS[0]}?step=1")
    title = page.locator("[data-region=order-step] h2")
    expect(title).to_have_text("Attempt 1 on payment.1")
    page.locator("[data-swimlane] a[tabindex='0']").first.focus()
    labels = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
        labels.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert labels == [
        "Waited 1.00 s for the next attempt",
        "Waited 5 ms in payment.order.created",
        "Attempt 2 on payment.1 failed, without a further attempt, after 50 ms: gateway timed out",
    ]
    expect(title).to_have_text("Attempt 2 on payment.1")
    expect(page).to_have_url(re.compile(r"\?step=2$"))
    page.keyboard.press("ArrowUp")
    expect(title).to_have_text("order.created published by order_api")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "order.created to 1 queue"


def test_tabs_and_scale_change_the_page_in_place_and_are_in_its_url(shop: RunningShop, page: Page) -> None:
    shop.open(page, f"/orders/{ORDERS[0]}?step=2")
    page.evaluate("window.isSamePage = true")
    page.get_by_role("link", name="Headers").click()
    expect(page.locator("[data-region=order-step]")).to_contain_text("x-sent-at")
    page.get_by_role("link", name="True scale").click()
    expect(page.locator("[data-swimlane]")).not_to_contain_text("folded")
    page.get_by_role("link", name="Error").click()
    expect(page.locator("[data-region=order-step] pre")).to_have_text("gateway timed out")
    assert page.evaluate("window.isSamePage")
    expect(page).to_have_url(re.compile(r"\?step=2&tab=error&scale=true$"))
    page.reload()
    expect(page.locator("[data-region=order-step] pre")).to_have_text("gateway timed out")


def test_orders_are_searched_by_address_and_by_id(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/orders")
    search = page.get_by_label("Order id or e-mail address")
    search.fill("nobody@example.com")
    search.press("Enter")
    expect(page.locator("main")).to_contain_text("No recorded order matches")
    search.fill("0001dead")
    search.press("Enter")
    expect(page.locator("tbody a")).to_have_count(1)
    page.get_by_role("link", name="Failed").click()
    expect(page.locator("main")).to_contain_text("No such orders")
    search.fill(ORDERS[2])
    search.press("Enter")
    page.wait_for_url(f"**/orders/{ORDERS[2]}")


def test_scripts_in_a_message_and_in_an_address_do_not_run(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/orders?status=failed")
    expect(page.locator("td.cut")).to_have_text(ADDRESS)
    page.locator("tbody a").click()
    page.wait_for_url(f"**/orders/{quote(HOSTILE, safe='')}")
    for tab in ("Headers", "Error", "Payload"):
        page.get_by_role("link", name=tab, exact=True).click()
        expect(page.locator(".tabs [aria-current]")).to_have_text(tab)
        expect(page.locator("[data-region=order-step]")).to_contain_text("window.stolen = 1")
    assert page.evaluate("window.stolen") is None


@pytest.mark.parametrize(("theme", "width", "height"), [("light", 1280, 800), ("dark", 1920, 1080)])
def test_the_pages_are_readable_and_without_barriers(
    shop: RunningShop,
    open_page: Callable[..., Page],
    page_errors: PageErrors,
    screenshot: Callable[[Page, str], Path],
    theme: str,
    width: int,
    height: int,
) -> None:
    page = open_page(width, height, theme)
    page_errors.expect(r"404")
    order = f"/orders/{ORDERS[0]}"
    paths = {
        "orders": "/orders",
        "order": order,
        "headers": f"{order}?tab=headers&scale=true",
        "unknown": "/orders/none",
    }
    for name, path in paths.items():
        shop.open(page, path)
        screenshot(page, f"{name}-{theme}-{width}")
        assert find_unreadable(page) == [], name
        assert find_violations(page) == [], name
