"""The page Services of a running system: actions on services, queues and the order API, and the log of a slot."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.amqp import channel_to
from tests.browser.accessibility import find_violations
from tests.browser.label_check import find_unreadable
from tests.browser.running_shop import RunningShop
from tests.rabbit import wait_until

#: Seconds within which a change is visible, in milliseconds.
SOON = 30_000
QUEUE = "payment.order.created"


def row(page: Page, slot: str) -> Locator:
    """Return the row of a slot."""
    return page.locator(f'[id="slot-{slot}"]')


def finished(page: Page, arguments: str) -> str:
    """Wait until the job with these arguments has succeeded, and return the command line that ran."""
    result = page.locator("[data-result]")
    expect(result.locator("code")).to_contain_text(arguments, timeout=SOON)
    expect(result.locator(".done")).to_be_visible(timeout=SOON)
    return result.locator("code").inner_text().removeprefix("$ ")


def open_menu(page: Page, node: str) -> Locator:
    """Open the menu of a node beside the page's heading."""
    page.evaluate(
        "(node) => import('/static/menu.js').then((menu) => menu.openMenu(node, document.querySelector('h1')))", node
    )
    menu = page.get_by_role("dialog", name=f"Actions on {node}")
    expect(menu).to_be_visible()
    return menu


def test_a_killed_worker_returns_with_its_reason_and_a_counted_restart(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/services")
    before = shop.slot("payment.1")
    opener = row(page, "payment.1").get_by_role("button", name="More actions on payment.1")
    opener.focus()
    page.keyboard.press("Enter")
    menu = page.get_by_role("dialog", name="Actions on slot payment.1")
    expect(menu.get_by_role("link", name="Logs")).to_be_focused()
    kill = menu.get_by_role("button", name="Kill")
    kill.focus()
    shown = menu.locator("[data-cli-text]").inner_text()
    assert shown.endswith(" fault kill payment.1")
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    expect(dialog.locator("[data-dialog-command]")).to_have_text(shown)
    # Nothing happens until the person has answered.
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert shop.slot("payment.1")["pid"] == before["pid"]
    kill.click()
    dialog.get_by_role("button", name="Kill").click()
    assert finished(page, "fault kill payment.1") == shown
    one = row(page, "payment.1")
    expect(one).to_contain_text("killed by SIGKILL", timeout=SOON)
    expect(one.locator(".state")).to_have_text("Running", timeout=SOON)
    expect(one.locator(".restarts")).to_have_text(str(before["restarts"] + 1))
    after = shop.slot("payment.1")
    assert (after["restarts"], after["pid"] != before["pid"]) == (before["restarts"] + 1, True)
    expect(page.locator("[data-timeline-list]")).to_contain_text("payment.1")


def test_plus_and_minus_change_the_number_of_instances(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/services")
    for button, slots in (("Scale payment to 2", 2), ("Scale payment to 1", 1)):
        page.get_by_role("button", name=button, exact=True).click()
        finished(page, f"scale payment {slots}")
        expect(page.locator("#service-payment tr")).to_have_count(slots, timeout=SOON)
        assert (shop.slot("payment.2") is not None) == (slots == 2)


def test_a_service_is_stopped_and_started_again(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/services")
    one = row(page, "notification.1")
    one.get_by_role("button", name="Stop notification.1", exact=True).click()
    finished(page, "stop notification.1")
    expect(one.locator(".state")).to_have_text("Stopped", timeout=SOON)
    expect(one).to_have_class("is-off")
    expect(page.locator("[data-region=summary]")).to_contain_text("4 of 5 slots running")
    one.get_by_role("button", name="Start notification.1", exact=True).click()
    finished(page, "start notification.1")
    expect(one.locator(".state")).to_have_text("Running", timeout=SOON)


def test_a_menu_works_by_keyboard_and_returns_the_focus(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/services")
    opener = row(page, "payment.1").get_by_role("button", name="More actions on payment.1")
    opener.focus()
    page.keyboard.press("Enter")
    menu = page.locator(".menu")
    expect(menu.get_by_role("link", name="Logs")).to_be_focused()
    expect(opener).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("ArrowRight")
    expect(menu.get_by_role("button", name="+1: run 2 instances")).to_be_focused()
    assert menu.locator("[data-cli-text]").inner_text().endswith(" scale payment 2")
    page.keyboard.press("Escape")
    expect(menu).to_have_count(0)
    expect(opener).to_be_focused()
    # A menu also closes when the focus leaves it.
    page.keyboard.press("Enter")
    expect(menu.get_by_role("link", name="Logs")).to_be_focused()
    page.locator("[data-find]").focus()
    expect(menu).to_have_count(0)
    expect(page.locator("[data-find]")).to_be_focused()


def test_a_node_of_the_picture_opens_its_menu_by_keyboard(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/")
    for node in (f"queue {QUEUE}", "exchange orders.topic", "service order_api"):
        target = page.locator(f'[data-target="{node}"]')
        target.focus()
        page.keyboard.press("Enter")
        menu = page.get_by_role("dialog", name=f"Actions on {node}")
        expect(menu.locator(":focus")).to_be_visible()
        expect(page).to_have_url(re.compile(f"node={node.partition(' ')[0]}"))
        page.keyboard.press("Escape")
        expect(menu).to_have_count(0)
        expect(target).to_be_focused()
        expect(page).not_to_have_url(re.compile("node="))
    # Another node can be chosen while a menu is open.
    for node in ("service payment", "service notification"):
        page.locator(f'[data-target="{node}"]').click()
        expect(page.get_by_role("dialog", name=f"Actions on {node}")).to_be_visible()
    expect(page).to_have_url(re.compile(r"node=service\+notification"))
    expect(page.locator(".menu")).to_have_count(1)


def test_a_menu_does_not_cover_its_node(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/services")
    for name in ("order_api.1", "dashboard.1"):
        opener = row(page, name).get_by_role("button", name=f"More actions on {name}")
        opener.click()
        expect(page.locator(".menu")).to_be_visible()
        boxes: Any = page.evaluate(
            """(id) => [document.getElementById(id), document.querySelector(".menu")].map((one) => {
              const box = one.getBoundingClientRect();
              return [box.left, box.top, box.right, box.bottom];
            })""",
            f"menu-of-{name}",
        )
        node, menu = boxes
        assert menu[1] >= node[3] or menu[3] <= node[1]
        page.keyboard.press("Escape")


def test_the_log_follows_the_slot_and_finds_text(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/services?slot=payment.1")
    expect(page.get_by_role("heading", name="Log of payment.1")).to_be_visible()
    lines = page.locator("[data-log] li:not([hidden])")
    order = shop.project.first_order()
    expect(page.locator("[data-log]")).to_contain_text(f"order {order}", timeout=SOON)
    page.get_by_label("Find in the log").fill(order[:13].upper())
    expect(page.locator("[data-log] mark").first).to_have_text(order[:13])
    assert all(order in text for text in lines.all_inner_texts())
    expect(page.locator("[data-log-count]")).to_contain_text(f"{lines.count()} of ")
    assert f"words={order[:13].upper()}" in page.url
    # The supervisor's own lines are a log too. Its warnings are marked.
    page.get_by_role("link", name="Supervisor log").click()
    page.get_by_label("Find in the log").fill("fault_injection: true")
    expect(page.locator("[data-log] li.warn:not([hidden])")).to_be_visible(timeout=SOON)
    assert "slot=runner" in page.url


def test_a_pause_holds_the_log(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/services?slot=payment.1")
    first = shop.project.first_order()
    expect(page.locator("[data-log]")).to_contain_text(first, timeout=SOON)
    page.get_by_role("button", name="Pause", exact=True).click()
    second = shop.project.first_order()
    shop.runner.wait_for(rf"payment.1 +\| order {second}: approved")
    # A request that was on its way before the pause has been answered when a later one has.
    page.evaluate("() => fetch('/services/log?slot=payment.1').then((answer) => answer.text())")
    assert second not in page.locator("[data-log]").inner_text()
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("[data-log]")).to_contain_text(second, timeout=SOON)


def test_a_filter_shows_some_services(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/services?find=pay")
    assert [one.partition("\n")[0] for one in page.locator("th.service b").all_inner_texts()] == ["payment"]
    page.get_by_label("Service or slot").fill("no such service")
    expect(page.get_by_role("heading", name="No service or slot contains this text")).to_be_visible()
    page.get_by_label("Service or slot").fill("")
    expect(page.locator("th.service")).to_have_count(5)


def test_orders_are_posted_in_the_menu_of_the_order_api(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/services")
    menu = open_menu(page, "service order_api")
    form = menu.get_by_role("form", name="Post an order")
    form.get_by_label("E-mail address").fill("o'neil@example.com")
    form.get_by_label("Amount").fill("12.50")
    command = form.locator("[data-cli-text]")
    expect(command).to_contain_text("12.50")
    expect(command).to_contain_text(f"curl -sS -X POST http://127.0.0.1:{shop.project.port}/orders")
    form.get_by_role("button", name="Post order", exact=True).click()
    result = page.locator("[data-result]")
    expect(result).to_contain_text("202 Accepted", timeout=SOON, ignore_case=True)
    expect(result.locator("code")).to_have_text(f"$ {command.inner_text()}")
    shop.runner.wait_for("accepted: 12.50 USD for o'neil@example.com")
    # A rate runs until the person stops it.
    form.get_by_label("Orders a second").fill("50")
    form.get_by_label("Seconds", exact=True).fill("300")
    form.get_by_role("button", name="Post orders").click()
    expect(result).to_contain_text("of 15000 orders accepted", timeout=SOON)
    result.get_by_role("button", name="Stop").click()
    expect(result.locator(".failed")).to_be_visible(timeout=SOON)
    form.get_by_label("Orders a second").fill("51")
    expect(command).to_contain_text("rate: not valid, '51'; allowed: 1 to 50")


def test_a_message_is_published_in_the_menu_of_a_queue(shop: RunningShop, page: Page) -> None:
    shop.open(page, "/services")
    queue = "unrouted.all"
    menu = open_menu(page, f"queue {queue}")
    menu.get_by_label("Type").fill("test.message")
    body = json.dumps({"text": "<img src=x onerror=alert(1)> '\"$HOME"})
    menu.get_by_label("Body").fill(body)
    menu.get_by_role("button", name="Publish a message").click()
    finished(page, f"publish {queue} --type test.message --body")
    expect(page.locator("[data-result] pre")).to_contain_text(f"published to {queue}: ")
    menu.get_by_role("button", name="Peek at 5").click()
    finished(page, f"peek -n 5 {queue}")
    expect(page.locator("[data-result] pre")).to_contain_text("<img src=x onerror=alert(1)>")
    menu.get_by_role("button", name="Purge").click()
    page.locator("dialog[open]").get_by_role("button", name="Purge").click()
    finished(page, f"purge {queue}")
    with channel_to(shop.broker_url) as channel:
        wait_until(lambda: channel.queue_declare(queue, passive=True).method.message_count == 0)


def test_the_menu_names_the_line_that_turns_fault_injection_on(shop: RunningShop, page: Page) -> None:
    # The running supervisor's mark is hidden, as if it had been started without the line.
    mark = shop.project.folder / "var" / "faults" / "supervisor"
    marks = [path for path in mark.parent.iterdir() if path.is_file() and path.suffix != ".json"]
    for path in marks:
        path.rename(path.with_name(f"{path.name}.away"))
    try:
        shop.open(page, "/services")
        menu = open_menu(page, "service payment")
        expect(menu).to_contain_text("fault_injection: true")
        expect(menu.get_by_role("button", name="Kill")).to_have_count(0)
    finally:
        for path in marks:
            path.with_name(f"{path.name}.away").rename(path)


@pytest.mark.parametrize(("scheme", "size"), [("light", (1280, 800)), ("dark", (1920, 1080))])
def test_the_page_and_its_menus_are_accessible_and_readable(
    shop: RunningShop,
    open_page: Callable[..., Page],
    screenshot: Callable[[Page, str], Any],
    scheme: str,
    size: tuple[int, int],
) -> None:
    width, height = size
    page = shop.open(open_page(width, height, scheme), "/services?slot=payment")
    expect(page.locator("[data-log] li").first).to_be_visible()
    assert find_violations(page) == []
    assert find_unreadable(page) == []
    screenshot(page, f"services-{scheme}-{width}")
    for node in ("service order_api", f"queue {QUEUE}", "exchange orders.topic"):
        open_menu(page, node)
        assert find_violations(page) == []
        assert find_unreadable(page) == []
    screenshot(page, f"services-menu-{scheme}-{width}")


def test_an_unknown_node_is_refused(shop: RunningShop, page: Page, page_errors: Any) -> None:
    page_errors.expect("404")
    shop.open(page, "/services")
    menu = open_menu(page, "service <b>none</b>")
    expect(menu).to_contain_text("unknown service, '<b>none</b>'; allowed: a service of the running system")
