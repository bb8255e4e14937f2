"""``ledger`` after edits, discards, repeated handling and a new vhost, with the real runner."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from runner.history.tables import attempts, events
from tests.accounted import (
    AUDIT,
    PAID,
    PAYMENT,
    Shop,
    of_queue,
    orders_lost,
    row,
)
from tests.rabbit import wait_until
from tests.running import Runner

#: These tests share one runner, so they run in one process.
shared = pytest.mark.xdist_group("ledger where something is edited")

HANDLES = "from runner import hookimpl\n\n\n@hookimpl\ndef handle(message):\n    pass\n"


@shared
def test_dead_letters_and_discarded_messages_are_found_after_edits_and_a_purged_dead_letter_is_lost(
    lasting_shop: Shop, lasting_runner: Runner
) -> None:
    shop = lasting_shop
    shop.settled({PAYMENT: (1, 1, 0, 0, 0, 0, 0)})
    shop.project.options("payment", timeout_rate=1.0)
    shop.run("reload")
    orders = shop.post(3)
    shop.settled({PAYMENT: (4, 1, 3, 0, 0, 0, 0)})
    shop.run("dlq", "discard", "--id", orders[0], "--yes")
    shop.settled({PAYMENT: (4, 1, 2, 1, 0, 0, 0)})
    _, history, _ = shop.command("order", "history", orders[0])
    assert f"order.created manually discarded from {PAYMENT}.dlq" in history
    assert history.startswith(f"order {orders[0]}: failed")
    assert "still dead-lettered" not in history

    shop.edit(PAYMENT, retry=["10m"])
    shop.run("reload")
    shop.post(2)
    lasting_runner.wait_for("again in 10m", count=2)
    shop.edit(PAYMENT, retry=["1s"], dead_letter="failed.payments")
    shop.run("reload")
    found = shop.settled({PAYMENT: (6, 1, 2, 1, 2, 0, 0)})
    assert found["settled"]

    shop.purge(f"{PAYMENT}.dlq")
    found = shop.losing()
    assert row(found, PAYMENT) == (6, 1, 0, 1, 2, 2, 0)
    assert {one["order_id"] for one in of_queue(found, PAYMENT)["candidates"]} > {*orders[1:]}


@shared
def test_a_renamed_queue_has_one_account_even_without_the_key_formerly(lasting_shop: Shop) -> None:
    shop = lasting_shop
    shop.post(2)
    shop.settled({PAYMENT: (3, 3, 0, 0, 0, 0, 0)})
    # The queue is renamed and renamed back, because the former name of a former name counts too.
    for old, new in ((PAYMENT, "payments.due"), ("payments.due", PAYMENT)):
        topology, config = shop.project.topology(), shop.project.config()
        topology["queues"][new] = topology["queues"].pop(old) | {"formerly": old}
        config["services"]["payment"]["consumes"] = [new]
        shop.project.set_topology(topology)
        shop.project.set_config(config)
        shop.run("reload")
        del topology["queues"][new]["formerly"]
        shop.project.set_topology(topology)
        shop.run("reload")
        shop.post(1)
    # No message is left out as published before the binding existed.
    shop.settled({PAYMENT: (5, 5, 0, 0, 0, 0, 0)})


def test_no_message_is_discarded_without_a_note(shop: Shop, running: Runner) -> None:
    shop.project.options("payment", timeout_rate=1.0)
    shop.run("reload")
    orders = shop.post(2)
    shop.settled({PAYMENT: (3, 1, 2, 0, 0, 0, 0)})

    def dead_letters() -> set[str]:
        return {one["properties"]["correlation_id"] for one in shop.vhost.messages(f"{PAYMENT}.dlq")}

    shop.run("stop", "audit")
    # The queue of notes becomes full.
    shop.edit(AUDIT, policy={"max-length": 1, "overflow": "reject-publish"})
    shop.run("apply")
    wait_until(lambda: shop.project.post()[0] == 503, 20, "the queue of notes is full")
    code, _, errors = shop.command("dlq", "discard", "--id", orders[0], "--id", orders[1], "--yes")
    assert code == 75
    assert (
        "order history: not all notes were sent, so no message was discarded (the order history may show 2"
        " messages as discarded, because the notes were already sent)" in errors
    )
    assert dead_letters() >= {*orders}

    shop.vhost.delete_queue(AUDIT)
    code, _, errors = shop.command("dlq", "discard", "--id", orders[0], "--yes")
    assert code == 75
    assert f"so no message was discarded: queue '{AUDIT}' does not exist" in errors
    assert dead_letters() >= {*orders}
    assert not [*(shop.project.folder / "var").glob("discarded-*")]


@shared
def test_messages_handled_twice_are_reported_and_with_an_inbox_they_are_an_error(
    lasting_shop: Shop, lasting_runner: Runner
) -> None:
    shop = lasting_shop

    def publish(id: str, order: str, times: int) -> None:
        body = {"order_id": order, "customer_email": "a@example.com", "amount": "9.99", "currency": "EUR"}
        properties = {"message_id": id, "type": "order.created", "correlation_id": order}
        message = {
            "routing_key": "order.created", "payload": json.dumps(body), "payload_encoding": "string",
            "properties": {**properties, "content_type": "application/json"},
        }  # fmt: skip
        for _ in range(times):
            path = f"/exchanges/{shop.vhost.name}/orders.topic/publish"
            assert shop.vhost.rabbit.api("POST", path, message)["routed"]

    publish("event-1", "o1", 2)
    found = shop.settled({PAYMENT: (2, 2, 0, 0, 0, 0, 1), PAID: (2, 2, 0, 0, 0, 0, 1)})
    assert of_queue(found, PAYMENT)["twice"] == [{"id": "event-1", "order_id": "o1", "type": "order.created"}]

    shop.project.plugin("other", HANDLES)
    config = shop.project.config()
    config["services"]["payment"]["inbox"] = True
    config["services"]["other"] = {"consumes": [PAYMENT], "inbox": True}
    shop.project.set_config(config)
    shop.run("reload")
    lasting_runner.pid_of("other.1")
    # The broker delivers messages to both services in turn. Each service deduplicates its own.
    query = select(attempts.c.service, attempts.c.outcome).where(attempts.c.message_id == "event-2")
    query = query.where(attempts.c.queue == PAYMENT)
    count = 0

    def had_by_both() -> bool:
        nonlocal count
        publish("event-2", "o2", 3)
        count += 3
        wait_until(lambda: len(shop.rows(query)) == count, 20, "all attempts are recorded")
        return {*shop.rows(query)} >= {("payment", "handled"), ("other", "handled"), ("other", "duplicate")}

    wait_until(had_by_both, 30, "both services got it")
    assert row(shop.ledger(), PAYMENT) == (3, 3, 0, 0, 0, 0, 2)
    # One of the services seems to have handled a duplicate again.
    mine = attempts.c.service == "other"
    shop.execute(update(attempts).where(attempts.c.outcome == "duplicate", mine).values(outcome="handled"))
    code, output, _ = shop.command("ledger")
    assert code == 1
    assert "1 handled twice despite an inbox" in output.splitlines()[-1]


@shared
def test_a_queue_counts_events_from_the_declaration_of_its_bindings(lasting_shop: Shop, lasting_runner: Runner) -> None:
    shop = lasting_shop
    shop.post(3)
    shop.settled({PAYMENT: (4, 4, 0, 0, 0, 0, 0)})
    topology, config = shop.project.topology(), shop.project.config()
    topology["queues"]["counter.orders"] = {"bind": {"orders.topic": ["order.created.#"]}}
    config["services"]["counter"] = {"consumes": ["counter.orders"]}
    shop.project.plugin("counter", HANDLES)
    shop.project.set_topology(topology)
    shop.project.set_config(config)
    found = shop.ledger()
    assert found["unapplied"] == [
        "binding orders.topic -(order.created.#)-> counter.orders: not applied yet, and therefore ignored"
    ]
    shop.run("reload")
    lasting_runner.pid_of("counter.1")
    found = shop.ledger()
    assert (row(found, "counter.orders"), found["unapplied"]) == ((0,) * 7, [])
    note = of_queue(found, "counter.orders")["note"]
    assert "4 events not counted: published before the binding existed, and not handled" in note
    # The service has not handled any order yet, but the loss is certain. Edits that are not applied change no figures.
    shop.run("stop", "counter")
    orders = shop.post(2)
    shop.settled({"counter.orders": (2, 0, 0, 0, 2, 0, 0)})
    shop.purge("counter.orders")
    shop.edit("counter.orders", bind={"orders.topic": ["order.updated.#"]})
    shop.edit(PAYMENT, bind={"orders.topic": ["order.#"]})
    shop.execute(insert(events).values(an_event("other", "order.updated", int(time.time() * 1000))))
    found = shop.losing()
    assert orders_lost(found, "counter.orders") == sorted(orders)
    assert row(found, PAYMENT) == (6, 6, 0, 0, 0, 0, 0)
    assert len(found["unapplied"]) == 4


def an_event(id: str, type: str, at: int) -> dict[str, Any]:
    about = {"exchange": "orders.topic", "routing_key": type, "headers": {}, "order_id": "o", "body": "{}"}
    return {**about, "id": id, "type": type, "published_at": at}


@shared
def test_if_the_time_of_the_bindings_is_unknown_a_queue_counts_from_its_first_known_event(lasting_shop: Shop) -> None:
    shop = lasting_shop
    shop.post(2)
    shop.settled({PAYMENT: (3, 3, 0, 0, 0, 0, 0)})
    path = f"/global-parameters/fastcommerce.{shop.vhost.name}"
    remembered = shop.vhost.rabbit.api("GET", path)
    value = {name: one for name, one in remembered["value"].items() if name != "since"}
    shop.vhost.rabbit.api("PUT", path, {**remembered, "value": value})
    # Old events, published when only audit had a queue, and an event that is lost now.
    shop.execute(insert(events).values([an_event(f"old-{n}", "order.created", n) for n in range(4)]))
    found = shop.ledger()
    assert row(found, PAYMENT) == (3, 3, 0, 0, 0, 0, 0)
    assert "4 events not counted: the age of the binding is unknown" in of_queue(found, PAYMENT)["note"]
    shop.execute(insert(events).values(an_event("new", "order.created", int(time.time() * 1000))))
    assert [one["id"] for one in of_queue(shop.losing(), PAYMENT)["lost"]] == ["new"]
    shop.vhost.rabbit.api("PUT", path, remembered)


@shared
def test_messages_of_a_broker_that_lost_its_data_are_lost_although_all_bindings_are_new(lasting_shop: Shop) -> None:
    shop = lasting_shop
    shop.settled({PAYMENT: (1, 1, 0, 0, 0, 0, 0)})
    shop.run("stop", "payment")
    orders = shop.post(5)
    shop.settled({PAYMENT: (6, 1, 0, 0, 5, 0, 0)})
    rabbit, name = shop.vhost.rabbit, shop.vhost.name
    rabbit.api("DELETE", f"/vhosts/{name}")
    rabbit.api("DELETE", f"/global-parameters/fastcommerce.{name}")
    rabbit.make_vhost(name)
    shop.project.first_order()
    wait_until(lambda: row(shop.losing(), PAYMENT) == (7, 1, 0, 0, 1, 5, 0), 30, "the order is accounted for")
    candidates = of_queue(shop.losing(), PAYMENT)["candidates"]
    assert {one["order_id"] for one in candidates} > {*orders}
