"""The rows that payment and notification keep, and their handling of an order that has a row already."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from plugins import payment
from plugins.notification.mail import Email
from plugins.notification.notifier import Notifier
from plugins.notification.template import load_templates
from runner import Event, Message, Reject
from runner.worker.storage import DeliveryStore, Storage
from tests.keeping import CHARGES, EMAILS, kept

ORDER = {"order_id": "o-1", "customer_email": "a@example.com", "amount": "10.00", "currency": "USD"}


def order(message_id: str, **changes: Any) -> Message:
    body = json.dumps({**ORDER, **changes}).encode()
    return Message(body, "q", "order.created", message_id, timestamp=1_700_000_000)


def commit(storage: Storage, store: DeliveryStore) -> None:
    for work in store.work:
        storage.get().commit(work).result(10)


def charge(storage: Storage, message: Message) -> Event:
    store = DeliveryStore(storage, inbox=True)
    gateway = payment.Gateway(payment.Options(latency="0ms"), logging.getLogger("test"))
    event = payment.handle(message, gateway, store)
    commit(storage, store)
    return event


def test_an_order_under_another_message_id_is_reported_again_and_not_charged_again(tmp_path: Path) -> None:
    storage, _ = kept(tmp_path)
    first, again = charge(storage, order("m-1")), charge(storage, order("m-2"))
    assert (first.type, first.body) == (again.type, again.body)
    (row,) = storage.get().read(select(CHARGES))
    assert (row.order_id, row.ten_thousandths, row.currency, row.reason, row.message_id) == (
        "o-1",
        100_000,
        "USD",
        None,
        "m-1",
    )
    storage.close(5)


@pytest.mark.parametrize(("amount", "kept_as"), [("5", 50_000), ("5.125", 51_250), ("0.0001", 1), ("10.5", 105_000)])
def test_a_charge_is_kept_to_the_last_decimal_place(tmp_path: Path, amount: str, kept_as: int) -> None:
    storage, _ = kept(tmp_path)
    charge(storage, order("m-1", amount=amount))
    charge(storage, order("m-2", amount=amount))
    (row,) = storage.get().read(select(CHARGES))
    assert row.ten_thousandths == kept_as
    with pytest.raises(Reject, match=rf"for a different amount: {amount}[.0]* USD"):
        charge(storage, order("m-3", amount=f"{Decimal(amount) + Decimal('0.0001')}"))
    storage.close(5)


@pytest.mark.parametrize("changes", [{"amount": "999.00"}, {"currency": "EUR"}])
def test_an_order_that_was_charged_another_amount_is_rejected(tmp_path: Path, changes: dict[str, str]) -> None:
    storage, _ = kept(tmp_path)
    charge(storage, order("m-1"))
    with pytest.raises(Reject, match=r"order o-1 was already decided for a different amount: 10.00 USD"):
        charge(storage, order("m-2", **changes))
    storage.close(5)


def test_of_two_simultaneous_deliveries_with_different_amounts_the_second_is_rejected(tmp_path: Path) -> None:
    storage, _ = kept(tmp_path)
    gateway = payment.Gateway(payment.Options(latency="0ms"), logging.getLogger("test"))
    first, second = DeliveryStore(storage, inbox=True), DeliveryStore(storage, inbox=True)
    payment.handle(order("m-1"), gateway, first)
    payment.handle(order("m-2", amount="99.00"), gateway, second)
    commit(storage, first)
    with pytest.raises(Reject, match=r"for a different amount: 10\.00 USD"):
        commit(storage, second)
    storage.close(5)


@dataclass
class Post:
    """A mail transport that keeps the e-mails."""

    sent: list[Email] = field(default_factory=list)

    def send(self, mail: Email, order: str) -> None:
        self.sent.append(mail)


@pytest.mark.parametrize("name", ["o-1", "\ud800", "nul\0", "long" * 5000])
def test_an_e_mail_is_sent_once_for_any_order_id(tmp_path: Path, name: str) -> None:
    storage, _ = kept(tmp_path)
    post = Post()
    notifier = Notifier(load_templates(None), "Shop <shop@example.com>", post)
    for _ in range(2):
        store = DeliveryStore(storage, inbox=True)
        notifier.notify(order("event-1", order_id=name), store)
        commit(storage, store)
    assert len(post.sent) == 1
    (row,) = storage.get().read(select(EMAILS))
    assert (row.event_id, row.recipient) == ("event-1", "a@example.com")
    storage.close(5)
