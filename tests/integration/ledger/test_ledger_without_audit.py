"""``ledger`` without audit or attempts: it uses the outbox and inboxes, and reports what remains unknown."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import insert

from runner.ledger.ledger_command import EMPTY
from runner.messages import Event
from runner.store.database import open_database
from runner.store.event_bytes import to_bytes
from runner.store.schema import inbox
from tests.accounted import (
    AUDIT,
    MAIL,
    PAID,
    PAYMENT,
    Shop,
    of_queue,
    orders_lost,
    row,
    running_in,
)
from tests.proof import times
from tests.rabbit import Vhost, wait_until
from tests.running import Project


def test_without_audit_ledger_explains_how_to_turn_it_on(
    project: Project, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, errors = Shop(project, vhost, monkeypatch).command("ledger")
    assert code == 1
    assert "audit is off" in errors


def test_with_inboxes_that_have_no_row_yet_nothing_is_proved(
    project: Project, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = project.config()
    config["services"]["payment"]["inbox"] = True
    project.set_config(config)
    shop = Shop(project, vhost, monkeypatch)
    shop.run("apply")
    open_database(f"sqlite:///{project.folder}/var/fastcommerce.db", project.folder).dispose()
    code, _, errors = shop.command("ledger")
    assert (code, errors) == (1, f"{EMPTY}\n")


# Other tests of the ledger use SQLite.
@pytest.mark.parametrize("database", ["postgresql", "sqlite"][: times(1, 2)], indirect=True)
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
        # The event of an unacknowledged message may not be published yet, so its loss is not certain.
        ghost = Event("payment.success", {}, exchange="payments.topic", routing_key="payment.success", id="ghost")
        made = {"service": "payment", "queue": PAYMENT, "message_id": "m", "events": to_bytes([ghost])}
        shop.execute(insert(inbox).values({**made, "done_at": int(time.time() * 1000)}))
        found = shop.ledger()
        assert (row(found, PAID), found["settled"]) == ((4, 4, 0, 0, 0, 0, 0), False)
        assert (
            "1 event not counted: possibly unpublished, because the message that caused the event is not"
            in of_queue(found, PAID)["note"]
        )
        shop.purge(PAYMENT)
        # The loss of the orders is certain at once.
        found = wait_until(
            lambda: found if orders_lost(found := shop.losing(), PAYMENT) == sorted(orders) else None, 30, "both losses"
        )
        assert [one["id"] for one in of_queue(found, PAID)["lost"]] == ["ghost"]


def test_without_attempts_ledger_reports_the_unknown_figures(shop: Shop) -> None:
    config = shop.project.config()
    config["services"]["audit"]["options"] = {"attempts": False}
    del config["services"]["notification"]
    shop.project.set_config(config)
    with running_in(shop):
        wait_until(lambda: row(shop.ledger(), AUDIT) == (2, 2, 0, 0, 0, 0, 0), 30)
        one = of_queue(shop.ledger(), PAYMENT)
        assert [(one["published"], one["handled"], one["waiting"], one["lost"]) for one in one["events"]] == [
            (1, None, None, 0)
        ]
        known = "handled messages are unknown: let audit record attempts, or set 'inbox: true' for payment"
        assert one["note"].startswith(known)
