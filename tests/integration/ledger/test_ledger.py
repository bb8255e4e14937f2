"""``ledger`` with the real runner: it reports lost messages, and never a message that is in flight."""

from __future__ import annotations

import time

import pytest

from tests.accounted import (
    AUDIT,
    MAIL,
    PAID,
    PAYMENT,
    Shop,
    of_queue,
    row,
)
from tests.amqp import channel_to
from tests.load import Load
from tests.rabbit import wait_until
from tests.running import Runner

#: These tests share one runner, so they run in one process.
pytestmark = pytest.mark.xdist_group("ledger")


def test_handled_orders_add_up_and_nothing_is_certain_while_audit_is_behind(lasting_shop: Shop) -> None:
    shop = lasting_shop
    shop.post(9)
    figures = dict.fromkeys((PAYMENT, MAIL, PAID), (10, 10, 0, 0, 0, 0, 0))
    found = shop.settled({**figures, AUDIT: (20, 20, 0, 0, 0, 0, 0)})
    assert (found["lost"], found["twice"]) == (0, 0)
    assert of_queue(found, "unrouted.all")["note"] == "no service consumes this queue"
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
    assert f"queue {PAYMENT}: 3 additional messages waiting in the queue" in output
    assert output.splitlines()[-1] == "not sure yet: 50 published = 50 handled"
    shop.run("start", "audit")
    wait_until(lambda: row(shop.losing(), PAYMENT) == (16, 10, 0, 0, 3, 3, 0), 30, "audit has recorded it")


@pytest.mark.timeout(120)
def test_waiting_messages_are_not_lost_but_purged_and_removed_messages_are(
    lasting_shop: Shop, lasting_runner: Runner
) -> None:
    shop = lasting_shop
    shop.settled({PAYMENT: (1, 1, 0, 0, 0, 0, 0)})
    shop.run("stop", "payment")
    orders = shop.post(5)
    shop.settled({PAYMENT: (6, 1, 0, 0, 5, 0, 0)})

    with channel_to(shop.vhost.url) as channel:
        channel.basic_get(PAYMENT, auto_ack=True)
    output = shop.statement()
    lines = output.splitlines()
    assert f"queue {PAYMENT}: 1 of 5 missing messages are lost, but their ids are unknown" in output
    begin = lines.index(f"1 of these 5 messages lost in {PAYMENT}:")
    assert {line.split()[-1] for line in lines[begin + 1 : begin + 6]} == {*orders}
    assert lines[-1] == "1 lost: 20 published = 15 handled + 4 waiting + 1 lost"

    # Lost messages remain lost, and later messages are not mistaken for them.
    shop.purge(PAYMENT)
    shop.run("start", "payment")
    later = shop.post(2)
    wait_until(lambda: all(f"Your order {one} is paid" in lasting_runner.output for one in later), 20)
    code, output, _ = shop.process("ledger")
    assert code == 1
    lines = output.splitlines()
    begin = lines.index(f"lost in {PAYMENT}:")
    assert {line.split()[-1] for line in lines[begin + 1 : begin + 6]} == {*orders}
    assert lines[-1] == "5 lost: 30 published = 25 handled + 5 lost"


@pytest.mark.timeout(180)
def test_under_load_no_message_is_reported_as_lost(lasting_shop: Shop) -> None:
    shop = lasting_shop
    # Payment is slower than the orders arrive, so most orders are unacked, which the statistics report late.
    shop.project.options("payment", failure_rate=0.1, latency="150ms", timeout_rate=0.3)
    shop.run("reload")
    load, looks = Load(shop.project.port, 8, clients=8), 0
    try:
        end = time.monotonic() + 6
        while time.monotonic() < end:
            found = shop.ledger()
            assert found["lost"] == 0
            looks += 1
    finally:
        answers = load.stop()
    assert looks >= 2
    accepted = sum(one.status == 202 for one in answers) + 1

    def all_handled() -> bool:
        found = row(shop.ledger(), PAYMENT)
        return found[0] == accepted and found[1] + found[2] == accepted

    wait_until(all_handled, 90, "all orders are handled or dead-lettered")
