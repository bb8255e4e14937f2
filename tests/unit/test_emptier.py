"""Messages with safe copies are acknowledged, however the emptying of their queue ends."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pika
import pytest

from runner.admin import emptier
from runner.amqp.wire.property_codec import Properties
from runner.errors import BrokerBlocked
from runner.messages import Event
from runner.queues.removal import Transfer


class Channel:
    """A channel that records its frames."""

    def __init__(self) -> None:
        self.published: list[str] = []
        self.acks: list[tuple[int, bool]] = []

    def basic_publish(self, exchange: str, key: str, *_: Any, **__: Any) -> None:
        self.published.append(key)

    def basic_ack(self, tag: int, *, multiple: bool) -> None:
        self.acks.append((tag, multiple))


@pytest.fixture
def transfer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Transfer]:
    """Return a transfer with the test's messages. Its connection is already closed when it ends."""
    one = Transfer("amqp://127.0.0.1:1/", "from", "to", 10)
    monkeypatch.setattr(one, "_channel", Channel(), raising=False)
    one._unconfirmed.use(one._channel)
    monkeypatch.setattr(one._session, "_connection", SimpleNamespace(is_open=False))
    yield one
    one._session.loop.close()


def deliver(one: Transfer, count: int) -> None:
    for tag in range(1, count + 1):
        method = pika.spec.Basic.Deliver("ct", tag, False, "", "from")
        one._on_delivery(one._channel, method, Properties.of(message_id=str(tag)), b"")


def confirm(one: Transfer, number: int, *, multiple: bool = False) -> None:
    one._unconfirmed.on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(number, multiple)))


@pytest.mark.parametrize(
    ("confirmed", "acks"),
    [
        ([], []),
        ([1], [(1, True)]),
        ([1, 2, 3], [(3, True)]),
        ([2], [(2, False)]),
        ([1, 3], [(1, True), (3, False)]),
        ([4, 5], [(4, False), (5, False)]),
    ],
)
def test_a_stall_leaves_no_message_with_a_safe_copy_in_its_queue(
    transfer: Transfer, monkeypatch: pytest.MonkeyPatch, confirmed: list[int], acks: list[tuple[int, bool]]
) -> None:
    deliver(transfer, 6)
    for number in confirmed:
        confirm(transfer, number)
    assert transfer._channel.acks == []
    monkeypatch.setattr(emptier, "STALLED", -1.0)
    transfer._beat()
    assert transfer._channel.acks == acks
    assert isinstance(transfer._session._error, BrokerBlocked)
    assert transfer.done == len(confirmed)


@pytest.mark.parametrize(
    ("confirmed", "done", "unnoted", "acks"),
    [
        # Messages 1 to 3 are published as 1 to 3, and their notes from 4 on.
        ([], 0, 0, []),
        ([1], 1, 1, [(1, True)]),
        ([1, 2, 3], 3, 3, [(3, True)]),
        ([1, 2, 3, 4], 3, 2, [(3, True)]),
        ([1, 2, 4, 5], 2, 0, [(2, True)]),
        ([3, 1, 4], 2, 1, [(1, True), (3, False)]),
    ],
)
def test_a_stall_of_the_queue_of_notes_leaves_no_message_in_both_queues(
    transfer: Transfer,
    monkeypatch: pytest.MonkeyPatch,
    confirmed: list[int],
    done: int,
    unnoted: int,
    acks: list[tuple[int, bool]],
) -> None:
    monkeypatch.setattr(transfer, "_note", lambda _, number: Event("n", {}, exchange="", routing_key="notes", id="n"))
    deliver(transfer, 3)
    for number in confirmed:
        confirm(transfer, number)
    monkeypatch.setattr(emptier, "STALLED", -1.0)
    transfer._beat()
    assert transfer._channel.acks == acks
    assert (transfer.done, transfer.unnoted) == (done, unnoted)
    assert isinstance(transfer._session._error, BrokerBlocked)
