"""``order list`` and its pages, with databases that the tests fill."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from runner.history.access import opened
from runner.history.order_list import OrderFilter, OrderPage, Position, known_statuses, list_orders
from runner.history.records import Read
from runner.history.tables import attempts, events
from runner.store.database import open_database
from tests.audited import T0, fill, turn_on
from tests.running import Project

ORDERS = ["aaaa1111", "aaaa2222", "bbbb1111"]


def place(
    engine: Engine, order: str, at: int, body: Any, *types: str, causes: bool = True, outcome: str | None = None
) -> None:
    """Write an order that began ``at`` ms after the others, with the events ``types`` and one attempt."""
    about: dict[str, Any] = {"order_id": order, "content_type": None, "headers": {}, "exchange": "x", "app_id": "shop"}
    rows = [
        {
            **about, "id": f"{order}-{number}", "type": kind, "published_at": T0 + at + number, "routing_key": kind,
            "causation_id": f"{order}-0" if number and causes else None,
            "body": body if isinstance(body, str) else json.dumps(body),
        }
        for number, kind in enumerate(("order.created", *types))
    ]  # fmt: skip
    attempt = {
        "id": f"{order}-a", "order_id": order, "message_id": f"{order}-0", "message_type": "order.created",
        "queue": "payment.order.created", "service": "payment", "instance": "payment.1", "attempt": 1, "replays": 0,
        "outcome": outcome, "error": "no card", "delay": 1000 if outcome == "retried" else None, "sent_at": T0 + at,
        "began_at": T0 + at, "ended_at": T0 + at + 5, "redelivered": False, "replayed_at": None,
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(insert(events), rows)
        if outcome is not None:
            connection.execute(insert(attempts), [attempt])


@pytest.fixture
def engine(project: Project, database: str) -> Iterator[Engine]:
    turn_on(project, database)
    found = open_database(database, project.folder)
    fill(found, ORDERS)
    yield found
    found.dispose()


@pytest.fixture
def read(engine: Engine, project: Project) -> Iterator[Read]:
    with opened(project.folder) as (found, _):
        yield found


@pytest.fixture
def listed(engine: Engine, project: Project) -> Callable[..., Any]:
    def run(*options: str, code: int = 0) -> Any:
        found, output = project.call("order", "list", *options)
        assert found == code, output
        return json.loads(output) if "--json" in options else output.splitlines()

    return run


def ids(page: OrderPage) -> list[str]:
    return [one.order_id for one in page.orders]


def test_the_latest_orders_are_listed_last_with_status_decision_and_amount(listed) -> None:
    found = listed("--limit", "2")
    assert found[0] == "older orders are omitted; use --limit 4 to show more"
    assert found[1].split("  ")[0] == "STARTED"
    assert [line.split()[2:] for line in found[2:]] == [
        ["aaaa2222", "paid", "5.05", "s", "149.99", "-"],
        ["bbbb1111", "paid", "5.05", "s", "149.99", "-"],
    ]


def test_each_order_has_the_status_of_its_history_and_its_open_messages(listed, engine: Engine) -> None:
    alice = {"customer_email": "Alice@Example.com", "amount": 5, "currency": "EUR"}
    place(engine, "dead0001", 1000, alice, outcome="dead_lettered")
    place(engine, "wait0001", 2000, alice, outcome="retried")
    place(engine, "decl0001", 3000, {"email": "bob@example.com"}, "payment.failed", outcome="handled")
    place(engine, "text0001", 4000, "no JSON")
    found = {one["order_id"]: one for one in listed("--json")["orders"]}
    assert [found[one]["status"] for one in ("dead0001", "wait0001", "decl0001", "text0001", "aaaa1111")] == [
        "failed", "accepted", "declined", "accepted", "paid",
    ]  # fmt: skip
    assert found["dead0001"] == {
        "order_id": "dead0001", "status": "failed", "started": "2023-11-14T22:13:21.000Z", "decided_after": None,
        "email": "Alice@Example.com", "amount": "5", "currency": "EUR", "waiting": 0, "dead_lettered": 1,
    }  # fmt: skip
    assert (found["wait0001"]["waiting"], found["decl0001"]["email"]) == (1, "bob@example.com")
    assert (found["text0001"]["amount"], found["text0001"]["email"]) == (None, None)
    last = [line.split("  ")[-1].strip() for line in listed()[-4:-1]]
    assert last == [
        "1 dead letter",
        "1 waiting",
        "bob@example.com",
    ]


def test_orders_are_selected_by_status_address_and_age(listed, engine: Engine) -> None:
    place(engine, "dead0001", 1000, {"customer_email": "Zoë@example.com"}, outcome="dead_lettered")
    place(engine, "next0001", 2000, {"customer_email": "zoë.b@example.com"})
    assert [one["order_id"] for one in listed("--json", "--email", "ZOE\u0308@EXAMPLE.COM")["orders"]] == ["dead0001"]
    assert [one["order_id"] for one in listed("--json", "--email", "zoë.b@")["orders"]] == ["next0001"]
    found = [one["order_id"] for one in listed("--json", "--email", "Zoë")["orders"]]
    assert found == ["dead0001", "next0001"]
    assert listed("--email", "zoë@example.co") == ["no such orders"]
    assert [one["order_id"] for one in listed("--json", "--status", "failed")["orders"]] == ["dead0001"]
    assert [one["order_id"] for one in listed("--json", "--status", "paid")["orders"]] == ORDERS
    assert [one["order_id"] for one in listed("--json", "--status", "accepted")["orders"]] == ["next0001"]
    assert listed("--status", "declined") == ["no such orders"]
    assert listed("--since", "1h") == ["no such orders"]


def test_an_unknown_status_and_a_text_that_no_address_contains_are_usage_errors(listed) -> None:
    assert listed("--status", "payed", code=2)[-1].endswith("unknown status 'payed'; did you mean 'paid'?")
    for text in ("", "a\tb"):
        assert f"not an e-mail address, {text!r}; allowed: " in listed("--email", text, code=2)[-1]


def test_an_order_belongs_to_the_time_of_its_first_event(read: Read, engine: Engine) -> None:
    place(engine, "cccc0001", 10, {}, "payment.success", causes=False)
    # The events of the other orders are 50 ms apart, and each order is paid after 5 s.
    assert ids(list_orders(read, limit=9)) == ["bbbb1111", "aaaa2222", "cccc0001", "aaaa1111"]
    assert ids(list_orders(read, OrderFilter(since=T0 + 20), limit=9)) == ["bbbb1111", "aaaa2222"]


def test_pages_of_orders_that_began_at_the_same_time_contain_each_order_once(read: Read, engine: Engine) -> None:
    names = [f"same{number:04}" for number in range(7)]
    for name in names:
        place(engine, name, 1000, {}, "payment.success")
    found, before = list[str](), None
    while True:
        page = list_orders(read, before=before, limit=3)
        found += ids(page)
        if page.older is None:
            break
        before = Position.parsed(str(page.older))
    assert len(found) == len(names) + len(ORDERS)
    assert set(found) == {*names, *ORDERS}


def test_a_search_reads_a_limited_number_of_events_and_continues_where_it_stopped(read: Read, engine: Engine) -> None:
    place(engine, "old00001", -1000, {"customer_email": "a@b.example"})
    calls: list[int] = []

    def counted(sql: str, parameters: Any) -> Any:
        rows = read(sql, parameters)
        calls.append(len(rows))
        return rows

    wanted = OrderFilter(email="A@b.example")
    first = list_orders(counted, wanted, limit=3, most_searched=4)
    assert (ids(first), first.is_cut) == ([], True)
    assert sum(calls) <= 4 + 3  # the statuses are three rows
    second = list_orders(read, wanted, before=first.older, limit=3, most_searched=4)
    assert (ids(second), second.is_cut, second.older) == (["old00001"], False, None)


def test_orders_are_found_by_the_beginning_of_the_id(read: Read) -> None:
    assert ids(list_orders(read, OrderFilter(prefix="aaaa"), limit=9)) == ["aaaa2222", "aaaa1111"]
    assert ids(list_orders(read, OrderFilter(prefix="%"), limit=9)) == []


def test_events_without_an_order_are_no_orders(read: Read, engine: Engine) -> None:
    with engine.begin() as connection:
        row = {"id": "n", "type": "note", "order_id": None, "published_at": T0 + 9000, "exchange": "x"}
        connection.execute(insert(events), [{**row, "routing_key": "k", "headers": {}, "body": "{}"}])
    assert ids(list_orders(read, limit=9)) == ORDERS[::-1]
    assert known_statuses(read) == ["accepted", "declined", "paid", "failed"]


def test_without_events_the_list_says_so(project: Project, database: str) -> None:
    assert project.call("order", "list")[1].startswith("audit is off, so no orders are recorded")
    turn_on(project, database)
    assert "no events are recorded yet" in project.call("order", "list")[1]
    open_database(database, project.folder).dispose()
    assert project.call("order", "list") == (0, "no orders yet\n")
