"""``ledger`` if one queue refused an event that another queue accepted, so that its publisher got no confirm."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete

from runner.store.schema import outbox
from runner.topology.plan import counted
from tests.accounted import AUDIT, PAID, PAYMENT, Shop, of_queue, row
from tests.rabbit import wait_until

FULL = {"max-length": 2, "overflow": "reject-publish"}
#: These tests share one runner, so they run in one process.
pytestmark = pytest.mark.xdist_group("ledger where a queue refuses")


@pytest.fixture(scope="module")
def with_outbox() -> bool:
    return True


def test_an_event_that_one_queue_refused_is_not_lost_while_it_is_in_the_outbox(
    lasting_shop: Shop,
) -> None:
    shop = lasting_shop
    shop.settled({PAYMENT: (1, 1, 0, 0, 0, 0, 0)})
    shop.run("stop", "payment")
    shop.edit(PAYMENT, policy=FULL)
    shop.run("reload")
    shop.post(8)

    def refused() -> int:
        found = shop.ledger()
        published, waiting = row(found, PAYMENT)[0], row(found, PAYMENT)[4]
        note = of_queue(found, PAYMENT)["note"]
        held = 9 - published
        is_said = f"{counted(held, 'event')} not counted: not confirmed yet" in note
        return held if held and is_said and waiting == published - 1 and row(found, AUDIT)[0] == 10 else 0

    count = wait_until(refused, 30, "unconfirmed events are not counted")
    # If no service reports the confirmed events, refused events cannot be distinguished from lost events.
    shop.run("stop", "order_api")
    shop.execute(delete(outbox))
    found = of_queue(shop.losing(), PAYMENT)
    assert (found["lost"], len(found["candidates"])) == ([], 8)
    assert row({"queues": [found]}, PAYMENT)[4:6] == (8 - count, count)
    assert "the queue rejects messages beyond its max-length, so an order that was answered with 503" in found["note"]


def test_an_event_that_one_queue_refused_is_not_lost_while_its_message_is_unacked(
    lasting_shop: Shop,
) -> None:
    shop = lasting_shop
    shop.settled({PAID: (1, 1, 0, 0, 0, 0, 0)})
    shop.run("stop", "notification")
    shop.edit(PAID, policy=FULL)
    shop.run("reload")
    shop.post(8)

    def refused() -> dict[str, Any] | None:
        found = shop.ledger()
        is_said = "the message that caused the event is not acknowledged" in of_queue(found, PAID)["note"]
        # The worker publishes its next event only after the confirm of the last one.
        return found if is_said and row(found, PAID)[4] else None

    found = wait_until(refused, 40, "events that may be unpublished are not counted")
    assert (found["lost"], found["settled"]) == (0, False)
    assert shop.command("ledger")[1].splitlines()[-1].startswith("not sure yet: ")
    shop.run("start", "notification")
    assert shop.settled({PAID: (9, 9, 0, 0, 0, 0, 0)})["lost"] == 0
