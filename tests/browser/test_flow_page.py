"""The page Flow of a running system: dots, live figures, the route of a typed key, slow motion, and lost streams."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.accessibility import find_violations
from tests.browser.label_check import find_unreadable
from tests.browser.page_errors import PageErrors
from tests.browser.running_shop import RunningShop
from tests.rabbit import wait_until

#: Collects each dot that reaches the end of its edge.
COLLECT_DOTS = "window.dots = []; document.addEventListener('dot', (event) => window.dots.push(event.detail))"
#: Returns the lit bindings: exchange, queue and pattern.
LIT = """() => [...document.querySelectorAll(".chip.match")].map((chip) =>
  [`exchange ${chip.dataset.exchange}`, chip.closest("[data-node]").dataset.node, chip.dataset.key])"""
KEYS = ("order.created", "order.created.eu.express", "order.cancelled", "payment.success", "order", "")


def _dots(page: Page, order: str) -> list[str]:
    """Return the edges along which the dots of an order have moved, in order."""
    found = page.evaluate("window.dots")
    return [one["edge"] for one in found if one["order"] == order]


def test_the_dots_of_an_order_reach_both_e_mails_and_the_order_is_paid(shop: RunningShop, page: Page) -> None:
    shop.open(page)
    page.evaluate(COLLECT_DOTS)
    page.get_by_role("button", name="Post order", exact=True).click()
    result = page.locator("[data-result]")
    expect(result).to_contain_text("Done")
    (order,) = re.findall(r'"order_id": "([0-9a-f-]{36})"', result.inner_text())
    to_mail = {
        "queue notification.order.events>service notification",
        "queue notification.payment.events>service notification",
    }
    wait_until(lambda: to_mail <= set(_dots(page, order)), 20, "dots reach both e-mails")
    edges = _dots(page, order)
    assert edges[0] == "service order_api>exchange orders.topic"
    # A dot never leaves a node before it has arrived there.
    for edge in edges[1:]:
        source = edge.partition(">")[0]
        arrivals = [one for one in edges[: edges.index(edge)] if one.endswith(f">{source}")]
        assert arrivals, edge
    shop.runner.wait_for(f"Your order {order} is paid")


def test_a_click_on_a_dot_opens_the_history_of_its_order(shop: RunningShop, page: Page) -> None:
    shop.open(page)
    order = shop.project.first_order()
    # A pause holds the dot in its place, so that the click meets it on a slow machine too.
    hold = """async () => {
      const { dots } = await import("/static/dots.js");
      for (;;) {
        await new Promise(requestAnimationFrame);
        const dot = dots.moving.find((one) => one.x !== undefined);
        if (!dot) continue;
        document.querySelector("[data-pause]").click();
        return [dot.x, dot.y];
      }
    }"""
    place: Any = page.evaluate(hold)
    page.locator("[data-stage]").click(position={"x": place[0], "y": place[1]}, force=True)
    page.wait_for_url(f"**/orders/{order}")


@pytest.mark.parametrize("key", KEYS)
def test_a_typed_key_lights_up_exactly_the_bindings_that_route_names(shop: RunningShop, page: Page, key: str) -> None:
    shop.open(page)
    page.get_by_role("textbox", name="Routing key").fill(key)
    for exchange in ("orders.topic", "payments.topic"):
        page.locator("[data-key-form] select").select_option(exchange)
        code, output = shop.project.call("route", exchange, key, "--json")
        assert code in (0, 1)
        expected = {
            (f"exchange {hop['exchange']}", f"queue {one['destination']}", one["routing_key"])
            for hop in json.loads(output)["hops"]
            for one in hop["bindings"]
            if one["destination_type"] == "queue" and hop["exchange"] != "unrouted"
        }
        if not key:
            expected = set()

        def is_lit(expected: set[tuple[str, str, str]] = expected) -> bool:
            return {tuple(one) for one in page.evaluate(LIT)} == expected

        wait_until(is_lit, 10, f"{key} to {exchange} lights up {expected}")
    assert f"key={key}" in page.url if key else "key=" not in page.url


def test_slow_motion_shows_the_steps_of_the_order_history_in_their_order(shop: RunningShop, page: Page) -> None:
    order = shop.project.first_order()
    shop.runner.wait_for(f"Your order {order} is paid")

    def history() -> Any:
        code, output = shop.project.call("order", "history", order, "--json")
        found = json.loads(output) if code == 0 else {"history": []}
        return found if len(found["history"]) >= 5 else None

    told = wait_until(history, 20, "the history is complete")
    shop.open(page, f"/?order={order}&slow=10")
    steps = page.locator("[data-motion-steps] li")
    expect(steps).to_have_count(len(told["history"]))
    assert steps.locator("b").all_inner_texts() == [one["what"] for one in told["history"]]
    page.get_by_role("button", name="Pause").last.click()
    forward = page.get_by_role("button", name="Next step")
    for _ in range(len(told["history"])):
        forward.click()
    expect(page.locator("[data-motion-steps] li[aria-current]")).to_have_attribute(
        "data-step", str(len(told["history"]) - 1)
    )
    page.get_by_role("button", name="Previous step").click()
    expect(page.locator("[data-motion-steps] li[aria-current]")).to_have_attribute(
        "data-step", str(len(told["history"]) - 2)
    )


def test_a_stopped_service_is_explained_in_one_sentence_with_a_link(shop: RunningShop, page: Page) -> None:
    shop.open(page)
    assert shop.project.call("stop", "audit")[0] == 0
    try:
        sentence = page.locator("[data-symptoms] li").filter(has_text="audit.1")
        expect(sentence).to_contain_text("was stopped")
        expect(sentence.get_by_role("link")).to_have_attribute("href", "/services?slot=audit.1")
        expect(page.locator("[data-timeline-list]")).to_contain_text("audit")
    finally:
        assert shop.project.call("start", "audit")[0] == 0
    expect(sentence).to_have_count(0)


def test_a_pause_holds_figures_and_the_state_stands_in_the_address(shop: RunningShop, page: Page) -> None:
    shop.open(page)
    page.get_by_role("button", name="Pause").click()
    assert "paused=1" in page.url
    handled = page.locator("[data-fact=handled]").inner_text()
    shop.project.first_order()
    with pytest.raises(AssertionError):
        expect(page.locator("[data-fact=handled]")).not_to_have_text(handled, timeout=3000)
    page.locator("[data-timeline-filter]").fill("nothing like this")
    expect(page.locator("[data-timeline-list]")).to_contain_text("Nothing has happened in this time")
    page.reload()
    expect(page.get_by_role("button", name="Continue")).to_be_visible()
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("[data-live].ok")).to_be_visible()


def test_the_stream_survives_sleep_a_reload_and_a_restart_of_the_dashboard(
    shop: RunningShop, page: Page, page_errors: PageErrors
) -> None:
    shop.open(page)

    def frame() -> int:
        return int(page.evaluate("import('/static/page.js').then((module) => module.state.n)"))

    def goes_on(why: str) -> None:
        before = frame()
        wait_until(lambda: frame() > before + 1, 30, f"frames arrive {why}")

    goes_on("at first")
    client = page.context.new_cdp_session(page)
    client.send("Page.setWebLifecycleState", {"state": "frozen"})
    client.send("Page.setWebLifecycleState", {"state": "active"})
    goes_on("after the sleep")
    topology = shop.project.topology()
    topology["queues"]["returns"] = {"bind": {"orders.topic": ["order.returned"]}}
    shop.project.set_topology(topology)
    assert shop.project.call("reload", url=shop.broker_url)[0] == 0
    expect(page.locator("[data-node='queue returns']")).to_be_visible()
    goes_on("after the reload")
    # The page reports the requests that fail while no process answers.
    page_errors.allow("/stream|/live")
    assert shop.project.call("restart", "dashboard")[0] == 0
    wait_until(lambda: frame() > 0 and page.locator("[data-live].ok").count() == 1, 30, "the page reconnects")
    goes_on("after the restart")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_readable(
    shop: RunningShop, open_page: Callable[..., Page], scheme: str, screenshot: Callable[[Page, str], Path]
) -> None:
    for form in ("chain", "columns"):
        page = shop.open(open_page(scheme=scheme), f"/?form={form}&key=order.created&exchange=orders.topic")
        expect(page.locator(".chip.match").first).to_be_visible()
        screenshot(page, f"flow-{form}-{scheme}")
        assert find_violations(page) == []
        assert find_unreadable(page) == []
        page.close()


def test_a_page_stays_open_and_names_the_command_while_its_dashboard_is_stopped(
    shop: RunningShop, page: Page, page_errors: PageErrors
) -> None:
    page_errors.expect("ERR_CONNECTION_REFUSED|Failed to fetch")
    page_errors.allow("/stream|/live")
    shop.open(page)
    banner = page.get_by_role("alert")
    expect(banner).to_have_count(0)
    assert shop.project.call("stop", "dashboard")[0] == 0
    try:
        expect(banner).to_contain_text(re.compile(r"No answer since \d\d:\d\d:\d\d\. Start the system:"))
        assert "-m runner" in banner.locator("code").inner_text()
        expect(page.locator("html")).to_have_attribute("data-stale", "")
        # Neither a link nor a form leaves the page for the error page of the browser.
        page.get_by_role("link", name="Orders").click()
        expect(banner).to_be_visible()
        post = page.get_by_role("button", name="Post order", exact=True)
        post.click()
        result = page.locator("[data-result]")
        expect(result.locator("pre")).to_have_text("the dashboard does not answer")
        expect(result).to_be_focused()
        page.keyboard.press("Escape")
        expect(result).to_be_hidden()
        expect(post).to_be_focused()
        assert page.url.rstrip("/") == shop.url
        # The marks do not come from the server.
        boxes = page.locator("svg.mark use").evaluate_all(
            "(all) => all.filter((use) => use.checkVisibility()).map((use) => use.getBBox().width)"
        )
        assert min(boxes, default=0) > 0
        assert find_violations(page) == []
        assert find_unreadable(page) == []
    finally:
        assert shop.project.call("start", "dashboard")[0] == 0
    expect(banner).to_have_count(0)
    expect(page.locator("html")).not_to_have_attribute("data-stale", "")
    page.get_by_role("link", name="Orders").click()
    expect(page).to_have_url(f"{shop.url}/orders")


def test_the_result_of_an_order_links_to_the_order_and_closes_by_itself(shop: RunningShop, clock_page: Page) -> None:
    page = clock_page
    shop.open(page)
    result = page.locator("[data-result]")
    page.get_by_role("button", name="Post order", exact=True).click()
    link = result.get_by_role("link", name=re.compile("^Order [0-9a-f]{8} accepted$"))
    expect(link).to_have_attribute("href", re.compile("^/orders/[0-9a-f-]{36}$"))
    # A person who reads the result keeps it.
    link.focus()
    page.clock.fast_forward(9_000)
    expect(result).to_be_visible()
    link.blur()
    page.clock.fast_forward(9_000)
    expect(result).to_be_hidden()
    page.get_by_role("button", name="Post order", exact=True).click()
    expect(link).to_be_visible()
    page.keyboard.press("Escape")
    expect(result).to_be_hidden()


def test_a_node_opens_its_menu_by_keyboard_and_returns_the_focus(shop: RunningShop, page: Page) -> None:
    shop.open(page)
    node = page.locator("[data-target='service payment']")
    node.focus()
    page.keyboard.press("Enter")
    menu = page.get_by_role("dialog").or_(page.locator("[data-menu]")).first
    expect(menu).to_be_visible()
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(node).to_be_focused()


def test_figures_are_called_old_while_no_frame_comes(shop: RunningShop, clock_page: Page) -> None:
    page = clock_page
    shop.open(page)
    live = page.locator("[data-live]")
    os.kill(shop.runner.process.pid, signal.SIGSTOP)
    try:
        page.clock.fast_forward(10_000)
        expect(live).to_contain_text("Reconnecting, figures of")
        expect(page.get_by_role("alert")).to_be_visible()
    finally:
        os.kill(shop.runner.process.pid, signal.SIGCONT)
    expect(live).to_contain_text("Live")


def test_a_name_may_contain_the_signs_of_paths_and_addresses(shop: RunningShop, page: Page) -> None:
    shop.open(page)
    script = """async () => {
      const { state, valueAt } = await import("/static/page.js");
      state.queues["50% a/b>c"] = { ready: 3 };
      return valueAt("queues/50% a/b>c/ready");
    }"""
    assert page.evaluate(script) == 3
