"""``ledger``: what is lost is named, and what is only on its way never is; on the real broker with the real runner."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from sqlalchemy import insert

from runner.messages import Event
from runner.store.event import to_bytes
from runner.store.schema import inbox
from tests.accounted import (
    AUDIT,
    MAIL,
    PAID,
    PAYMENT,
    Shop,
    audited_shop,
    of_queue,
    orders_lost,
    quick_rabbit,
    row,
    running_in,
)
from tests.load import Load
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import Project, Runner


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    node = quick_rabbit(tmp_path_factory.mktemp("rabbit") / "broker")
    yield node
    node.stop()


@pytest.fixture
def shop(project: Project, vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return audited_shop(project, vhost, tmp_path, monkeypatch)


@pytest.fixture
def running(shop: Shop) -> Iterator[Runner]:
    with running_in(shop) as runner:
        yield runner


def test_orders_that_are_handled_add_up_and_while_audit_is_behind_nothing_is_sure(shop: Shop, running: Runner) -> None:
    shop.post(9)
    figures = dict.fromkeys((PAYMENT, MAIL, PAID), (10, 10, 0, 0, 0, 0, 0))
    found = shop.settled({**figures, AUDIT: (20, 20, 0, 0, 0, 0, 0)})
    assert (found["lost"], found["twice"]) == (0, 0)
    assert of_queue(found, "unrouted.all")["note"] == "no service reads it"
    code, output, _ = shop.process("ledger")
    assert code == 0
    assert output.splitlines()[-1] == "nothing is lost: 50 published = 50 handled"
    assert shop.ledger("--since", "1h")["queues"][0]["events"] == found["queues"][0]["events"]
    assert shop.ledger()["settled"]
    assert row(shop.ledger("--since", "1s"), PAYMENT)[0] <= 10

    shop.run("stop", "audit")
    shop.run("stop", "payment")
    shop.post(3)
    shop.purge(PAYMENT)
    shop.post(3)
    code, output, _ = shop.command("ledger")
    assert code == 0
    assert f"queue {PAYMENT}: 3 more wait here, of which nothing is written down yet" in output
    assert output.splitlines()[-1] == "not sure yet: 50 published = 50 handled"
    shop.run("start", "audit")
    wait_until(lambda: row(shop.losing(), PAYMENT) == (16, 10, 0, 0, 3, 3, 0), 30, "audit has written it down")


@pytest.mark.timeout(120)
def test_what_waits_is_not_lost_and_what_was_purged_or_taken_by_others_is(shop: Shop, running: Runner) -> None:
    shop.settled({PAYMENT: (1, 1, 0, 0, 0, 0, 0)})
    shop.run("stop", "payment")
    orders = shop.post(5)
    shop.settled({PAYMENT: (6, 1, 0, 0, 5, 0, 0)})

    connection = pika.BlockingConnection(pika.URLParameters(shop.vhost.url))
    connection.channel().basic_get(PAYMENT, auto_ack=True)
    connection.close()
    code, output, _ = shop.command("ledger")
    assert code == 1
    lines = output.splitlines()
    assert f"queue {PAYMENT}: 1 of 5 that are missing are lost; which, is not known, as what waits" in output
    begin = lines.index(f"1 of these 5 are lost in {PAYMENT}:")
    assert {line.split()[-1] for line in lines[begin + 1 : begin + 6]} == {*orders}
    assert lines[-1] == "1 lost: 20 published = 15 handled + 4 waiting + 1 lost"

    shop.purge(PAYMENT)
    code, output, _ = shop.process("ledger")
    assert code == 1
    lines = output.splitlines()
    begin = lines.index(f"lost in {PAYMENT}:")
    assert {line.split()[-1] for line in lines[begin + 1 : begin + 6]} == {*orders}
    assert lines[-1] == "5 lost: 20 published = 15 handled + 5 lost"

    # Those that are lost stay so, and those that come later are told from them.
    shop.run("start", "payment")
    shop.post(2)
    figures = (8, 3, 0, 0, 0, 5, 0)
    found = wait_until(lambda: found if row(found := shop.losing(), PAYMENT) == figures else None, 30, "all is handled")
    assert orders_lost(found, PAYMENT) == sorted(orders)


@pytest.mark.timeout(180)
def test_under_load_nothing_is_ever_called_lost(shop: Shop, running: Runner) -> None:
    # Slower than orders come, so that most are in its hands, of which the statistics tell late.
    shop.project.options("payment", failure_rate=0.1, latency="80ms", timeout_rate=0.3)
    shop.run("reload")
    load, looks = Load(shop.project.port, 15, clients=8), 0
    try:
        end = time.monotonic() + 9
        while time.monotonic() < end:
            found = shop.ledger()
            assert found["lost"] == 0
            looks += 1
    finally:
        answers = load.stop()
    assert looks >= 3
    accepted = sum(one.status == 202 for one in answers) + 1

    def all_handled() -> bool:
        found = row(shop.ledger(), PAYMENT)
        return found[0] == accepted and found[1] + found[2] == accepted

    wait_until(all_handled, 90, "all orders are handled or parked")


def test_without_audit_it_says_how_to_turn_it_on(
    project: Project, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, errors = Shop(project, vhost, monkeypatch).command("ledger")
    assert code == 1
    assert "audit is off" in errors


def test_an_outbox_and_inboxes_prove_it_without_audit(
    project: Project, vhost: Vhost, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = project.config()
    config["store"] = {"url": database}
    for name in ("payment", "notification"):
        config["services"][name]["inbox"] = True
    config["services"]["payment"]["options"] = {"failure_rate": 0.0, "latency": "1ms"}
    config["services"]["order_api"]["options"]["outbox"] = True
    project.set_config(config)
    shop = Shop(project, vhost, monkeypatch)
    with running_in(shop):
        shop.post(3)
        shop.settled(dict.fromkeys((PAYMENT, MAIL, PAID), (4, 4, 0, 0, 0, 0, 0)))
        shop.run("stop", "payment")
        orders = shop.post(2)
        assert shop.settled({PAYMENT: (6, 4, 0, 0, 2, 0, 0)})["settled"]
        # Of a message that is not acknowledged the event may not be sent yet, which as good as hides its loss.
        ghost = Event("payment.success", {}, exchange="payments.topic", routing_key="payment.success", id="ghost")
        made = {"service": "payment", "queue": PAYMENT, "message_id": "m", "events": to_bytes([ghost])}
        shop.execute(insert(inbox).values({**made, "done_at": int(time.time() * 1000)}))
        found = shop.ledger()
        assert (row(found, PAID), found["settled"]) == ((4, 4, 0, 0, 0, 0, 0), False)
        assert (
            "1 more are not counted: the messages that they are made of are not done" in of_queue(found, PAID)["note"]
        )
        shop.purge(PAYMENT)
        found = shop.losing()
        assert orders_lost(found, PAYMENT) == sorted(orders)
        assert [one["id"] for one in of_queue(found, PAID)["lost"]] == ["ghost"]


def test_with_audit_but_no_trace_it_says_what_is_not_known(shop: Shop) -> None:
    config = shop.project.config()
    del config["trace"]
    shop.project.set_config(config)
    with running_in(shop):
        wait_until(lambda: row(shop.ledger(), AUDIT) == (2, 2, 0, 0, 0, 0, 0), 30)
        one = of_queue(shop.ledger(), PAYMENT)
        assert [(one["published"], one["handled"], one["waiting"], one["lost"]) for one in one["events"]] == [
            (1, None, None, 0)
        ]
        known = "what was handled is not known: trace, or inbox: true for payment, makes it known"
        assert one["note"].startswith(known)
