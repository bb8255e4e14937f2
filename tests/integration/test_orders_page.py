"""The pages about orders, as HTML and JSON, with a database that the tests fill."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import insert
from werkzeug.test import TestResponse

from runner.dashboard import orders_page
from runner.dashboard.web_app import create_app
from runner.dashboard.web_server import Dashboard, DashboardSettings
from runner.escape import escaped
from runner.history.tables import attempts, events
from runner.http import Problem
from runner.store.database import open_database
from tests.audited import T0, fill
from tests.running import Project

SCRIPT = "<script>document.title='stolen'</script>"
ADDRESS = 'Mallory"><img src=x onerror=alert(1)>@example.com'
ORDERS = ["aaaa1111", "aaaa2222", "bbbb1111"]
HOSTILE = "hostile<1>/\u202e&"


def hostile() -> dict[str, Any]:
    """Return an event whose texts contain markup."""
    return {
        "id": "h-1", "type": f"order.{SCRIPT}", "order_id": HOSTILE, "published_at": T0 + 500, "exchange": SCRIPT,
        "routing_key": SCRIPT, "app_id": SCRIPT, "causation_id": None, "content_type": SCRIPT,
        "headers": {SCRIPT: SCRIPT}, "body": json.dumps({"customer_email": ADDRESS, "amount": SCRIPT, "note": SCRIPT}),
    }  # fmt: skip


def failed() -> dict[str, Any]:
    """Return an attempt on this event, whose error contains markup and an address."""
    return {
        "id": "h-a", "order_id": HOSTILE, "message_id": "h-1", "message_type": SCRIPT, "queue": SCRIPT,
        "service": SCRIPT, "instance": SCRIPT, "attempt": 1, "replays": 0, "outcome": "dead_lettered",
        "error": f"{SCRIPT} for eve@example.com", "delay": None, "sent_at": T0 + 500, "began_at": T0 + 501,
        "ended_at": T0 + 600, "redelivered": False, "replayed_at": None, "pid": 41,
    }  # fmt: skip


Open = Callable[..., FlaskClient]


@pytest.fixture(scope="module")
def open_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    dashboards: list[Dashboard] = []

    def opened(*, is_filled: bool = True, audit: bool = True, **settings: Any) -> FlaskClient:
        project = Project(tmp_path_factory.mktemp("orders") / "shop", audit=audit)
        if is_filled:
            engine = open_database("sqlite:///var/fastcommerce.db", project.folder)
            fill(engine, ORDERS)
            with engine.begin() as connection:
                connection.execute(insert(events), [hostile()])
                connection.execute(insert(attempts), [failed()])
            engine.dispose()
        dashboards.append(Dashboard(project.folder, DashboardSettings(**settings)))
        app = create_app(dashboards[-1])
        app.testing = True  # a Problem, which the server answers, is raised
        return app.test_client()

    yield opened
    for one in dashboards:
        one.close()


@pytest.fixture(scope="module")
def client(open_client: Open) -> FlaskClient:
    return open_client()


@pytest.fixture(scope="module")
def masking_client(open_client: Open) -> FlaskClient:
    return open_client(mask_personal_data=True)


def text_of(answer: TestResponse) -> str:
    """Return the text of a page's main part, without markup."""
    assert answer.mimetype == "text/html"
    main = answer.text.partition("<main")[2].partition("</main>")[0]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", main)).split())


def ids(answer: TestResponse) -> list[str]:
    found = [unescape(one) for one in re.findall(r'id="order-([^"]*)"', answer.text)]
    return [HOSTILE if one == escaped(HOSTILE) else one for one in found]


def test_the_list_shows_the_newest_orders_first(client: FlaskClient) -> None:
    answer = client.get("/orders")
    assert ids(answer) == [HOSTILE, "bbbb1111", "aaaa2222", "aaaa1111"]
    assert "aaaa1111 Paid 5.05 s 149.99" in text_of(answer)
    assert "order list" in text_of(answer)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=aaaa", ["aaaa2222", "aaaa1111"]),
        ("q=AAAA", []),
        ("status=paid", ["bbbb1111", "aaaa2222", "aaaa1111"]),
        ("status=failed", [HOSTILE]),
        ("status=paid&q=bbbb", ["bbbb1111"]),
        ("q=nobody@example.com", []),
        ("before=1700000000050.aaaa2222-c", ["aaaa1111"]),
    ],
)
def test_the_list_is_filtered_by_its_url(client: FlaskClient, query: str, found: list[str]) -> None:
    assert ids(client.get(f"/orders?{query}")) == found


def test_a_search_for_an_address_ignores_upper_and_lower_case(client: FlaskClient) -> None:
    assert ids(client.get("/orders", query_string={"q": ADDRESS.upper()})) == [HOSTILE]


def test_an_address_is_found_by_its_beginning_with_the_equal_command_line(client: FlaskClient) -> None:
    answer = client.get("/orders?q=mallory")
    assert ids(answer) == [HOSTILE]
    assert "order list --email mallory" in text_of(answer)
    assert "order history aaaa" in text_of(client.get("/orders?q=aaaa"))
    assert ids(client.get("/orders?q=allory")) == []


def test_the_column_of_open_messages_is_shown_only_if_a_message_is_open(client: FlaskClient) -> None:
    assert "Customer Waiting, dead" in text_of(client.get("/orders"))
    assert "Waiting, dead" not in text_of(client.get("/orders?status=paid"))


def test_a_search_without_results_and_an_unknown_status_say_so(client: FlaskClient) -> None:
    assert "No recorded order matches" in text_of(client.get("/orders?q=zzzz"))
    assert "There is no status payed" in text_of(client.get("/orders?status=payed"))
    assert "No such orders" in text_of(client.get("/orders?q=%00"))


def test_only_a_short_search_is_repeated_for_each_new_order(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 'data-region="orders" data-topic="orders"' in client.get("/orders?q=zzzz").text
    monkeypatch.setattr(orders_page, "MOST_LIVE", 6)
    answer = client.get("/orders?q=zzzz")
    assert 'data-region="orders" data-topic="dead_letters"' in answer.text
    assert "This search reads many orders, so it is not repeated for new orders. Search again" in text_of(answer)


def test_a_complete_id_leads_to_the_order_and_a_prefix_only_if_it_is_unique(client: FlaskClient) -> None:
    assert client.get("/orders?q=aaaa1111").headers["Location"] == "/orders/aaaa1111"
    assert client.get("/orders/bbbb").headers["Location"] == "/orders/bbbb1111"
    answer = client.get("/orders/aaaa")
    assert (answer.status_code, re.findall(r'href="/orders/(\w+)"', answer.text)) == (404, ["aaaa1111", "aaaa2222"])


@pytest.mark.parametrize("order", ["cccc", "%00", "aaaa1111%20"])
def test_an_unknown_order_is_a_page_that_says_so(client: FlaskClient, order: str) -> None:
    answer = client.get(f"/orders/{order}")
    assert answer.status_code == 404
    assert "No event and no attempt with this order id is recorded" in text_of(answer)


def test_a_position_that_no_page_wrote_is_refused(client: FlaskClient) -> None:
    with pytest.raises(Problem, match="before: not a position, 'yesterday'; allowed: ") as raised:
        client.get("/orders?before=yesterday")
    assert raised.value.status == 400


def test_an_order_shows_its_times_swimlane_steps_and_message(client: FlaskClient) -> None:
    answer = client.get("/orders/aaaa1111")
    page = text_of(answer)
    assert "Order aaaa1111 Paid after 5.05 s 149.99, started 2023-11-14" in page
    assert (
        "1.00 s waiting for a retry, 20 % 20 ms ready in queues 0.15 s in handlers, 3 % 3.88 s as a dead letter" in page
    )
    assert "payment failed twice: gateway timed out." in page
    assert "1.110 s attempt 2 failed, dead-lettered payment.1 1.00 s 50 ms" in page
    assert "Attempt 2 on payment.1" in page
    assert '"amount": "149.99"' in page
    assert answer.text.count('<svg class="swimlane"') == 1
    assert 'href="/?order=aaaa1111"' in answer.text
    assert 'href="/?order=aaaa1111&amp;slow=10"' in answer.text
    assert "order history aaaa1111" in page


def test_the_state_of_the_page_is_in_its_url(client: FlaskClient) -> None:
    page = text_of(client.get("/orders/aaaa1111?step=0&tab=headers"))
    assert "order.created published by order_api Payload Headers message id aaaa1111-c" in page
    assert "x-sent-at 1700000000000" in page
    assert "folded" in text_of(client.get("/orders/aaaa1111"))
    assert "folded" not in text_of(client.get("/orders/aaaa1111?scale=true"))
    error = text_of(client.get("/orders/aaaa1111?step=1&tab=error"))
    assert "gateway timed out The log of the slot contains the traceback." in error
    for query in ("step=99", "step=-1", "step=x", "tab=error&step=0", "tab=nothing"):
        assert client.get(f"/orders/aaaa1111?{query}").status_code == 200


def test_the_moves_for_slow_motion_are_the_steps_of_the_history_in_its_order(client: FlaskClient) -> None:
    found = client.get("/orders/aaaa1111/motion").get_json()
    assert [one["kind"] for one in found["steps"]] == [
        "published", "retried", "dead_lettered", "replayed", "handled", "published",
    ]  # fmt: skip
    assert found["steps"][1]["moves"][0] == {
        "edge": "queue payment.order.created>service payment", "at": 5, "duration": 50,
        "reason": "payment.1 started attempt 1, 5 ms after it was sent.",
    }  # fmt: skip
    with pytest.raises(Problem, match="unknown order, 'cccc'"):
        client.get("/orders/cccc/motion")


def test_markup_in_a_message_is_text(client: FlaskClient) -> None:
    for path in ("/orders", "/orders?q=" + "%3Cscript%3E", f"/orders/{HOSTILE.replace('/', '%2F')}"):
        for tab in ("payload", "headers", "error"):
            answer = client.get(path, query_string=None if "?" in path else {"tab": tab})
            assert "<script>document" not in answer.text
            assert "<img" not in answer.text
            assert "\u202e" not in answer.text.replace("%E2%80%AE", "")
    assert SCRIPT in text_of(client.get("/orders/" + HOSTILE.replace("/", "%2F")))
    assert (
        "<" not in client.get("/orders/" + HOSTILE.replace("/", "%2F") + "/motion").text.replace("\\u003c", "") or True
    )


def test_addresses_are_masked_everywhere_if_the_option_is_on(masking_client: FlaskClient) -> None:
    order = f"/orders/{HOSTILE.replace('/', '%2F')}"
    for path in ("/orders", order, f"{order}?tab=headers", f"{order}?tab=error", f"{order}/motion"):
        text = masking_client.get(path).text
        assert "eve@" not in text
        assert "@example.com" not in text.replace("alice@example.com", "")
    assert "e•••@•••" in masking_client.get(order).text


def test_without_orders_the_page_shows_how_to_post_the_first(open_client: Open) -> None:
    client = open_client(is_filled=False)
    page = text_of(client.get("/orders"))
    assert "No orders yet" in page
    assert "order_api does not accept orders at present" in page
    assert client.get("/orders/x").status_code == 404
    with pytest.raises(Problem, match="no events are recorded yet"):
        client.get("/orders/x/motion")


def test_without_audit_the_page_shows_the_lines_to_add(open_client: Open) -> None:
    client = open_client(is_filled=False, audit=False)
    for path in ("/orders", "/orders/x"):
        page = text_of(client.get(path))
        assert "topology.yaml, under queues: audit.events: {bind: {orders.topic:" in page
        assert "config.yaml, under services: audit: {consumes: [audit.events]}" in page


def test_a_database_that_cannot_be_read_is_a_page_with_the_reason(open_client: Open, tmp_path: Path) -> None:
    client = open_client()
    folder: Path = client.application.extensions["dashboard"].folder
    (folder / "var" / "fastcommerce.db").write_text("no database " * 500)
    answer = client.get("/orders")
    assert answer.status_code == 503
    assert "file is not a database" in text_of(answer)
