"""Copies of messages whose deliveries are used up. Each message is in one place, whatever the broker refuses."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pika
import pytest

from runner.amqp.wire.property_codec import Properties
from runner.config.version import QUORUM
from runner.errors import PublishRefused
from runner.queues.peek import Peek


class Channel:
    """A channel that records acknowledgements."""

    def __init__(self) -> None:
        self.published = 0
        self.acks: list[int] = []

    def basic_publish(self, *_: Any, **__: Any) -> None:
        self.published += 1

    def basic_ack(self, tag: int) -> None:
        self.acks.append(tag)


@pytest.fixture
def peek(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peek]:
    """Return a peek that waits for the confirms of three copies. Its connection is already closed when it ends."""
    one = Peek("amqp://127.0.0.1:1/", "q", 3, QUORUM, 1)
    monkeypatch.setattr(one, "_channel", Channel(), raising=False)
    one._unconfirmed.use(one._channel)
    monkeypatch.setattr(one._session, "_connection", SimpleNamespace(is_open=False))
    methods = [pika.spec.Basic.Deliver("ct", tag, True, "", "q") for tag in (1, 2, 3)]
    one._copy([(method, Properties.of(message_id=f"m{method.delivery_tag}"), b"") for method in methods])
    assert one._channel.published == 3
    yield one
    one._session.loop.close()


@pytest.mark.parametrize(
    ("answers", "refused", "rescued"),
    [
        ("aaa", "", "m1, m2, m3"),
        ("naa", "m1", "m2, m3"),
        ("ana", "m2", "m1, m3"),
        ("aan", "m3", "m1, m2"),
        ("nan", "m1, m3", "m2"),
        ("nnn", "m1, m2, m3", ""),
    ],
)
def test_a_confirmed_copy_replaces_its_message(peek: Peek, answers: str, refused: str, rescued: str) -> None:
    for number, answer in enumerate(answers, 1):
        assert not peek._session.is_finished
        method = pika.spec.Basic.Ack(number) if answer == "a" else pika.spec.Basic.Nack(number)
        peek._unconfirmed.on_confirm(SimpleNamespace(method=method))
    assert peek._session.is_finished
    assert ", ".join(one.id for one in peek.rescued) == rescued
    assert ", ".join(f"m{tag}" for tag in peek._channel.acks) == rescued
    error = peek._session._error
    assert isinstance(error, PublishRefused) == bool(refused)
    if refused:
        end = f"; moved to the end of the queue: {rescued}" if rescued else ""
        assert str(error) == (
            f"queue 'q': message {refused}: at the delivery limit, and the queue refused a copy; the broker"
            f" will dead-letter or drop the message{end}"
        )


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_message_that_cannot_be_copied_does_not_prevent_the_other_copies(
    peek: Peek, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    def refuse(method: Any, *_: Any, **__: Any) -> Any:
        if method.delivery_tag == at:
            raise ValueError("the message cannot be copied: too large")

    monkeypatch.setattr("runner.queues.peek.moved_properties", refuse)
    spent = peek._unconfirmed.clear()
    peek._unconfirmed.use(peek._channel)
    peek._copy(spent)
    for number in (1, 2):
        assert not peek._session.is_finished
        peek._unconfirmed.on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(number)))
    assert peek._channel.acks == [tag for tag in (1, 2, 3) if tag != at]
    others = ", ".join(f"m{tag}" for tag in (1, 2, 3) if tag != at)
    assert str(peek._session._error) == (
        f"queue 'q': message m{at}: at the delivery limit, and the message cannot be copied: too large; the broker will"
        f" dead-letter or drop the message; moved to the end of the queue: {others}"
    )


@pytest.mark.parametrize("confirmed", [0, 1, 2])
def test_messages_of_a_deleted_queue_are_named_once(peek: Peek, confirmed: int) -> None:
    for number in range(1, confirmed + 1):
        peek._unconfirmed.on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(number)))
    returned = pika.spec.Basic.Return(312, "NO_ROUTE", "", "q")
    peek._unconfirmed.on_return(peek._channel, returned, pika.BasicProperties(message_id="m1"), b"")
    peek._unconfirmed.on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(3)))  # it follows the return
    assert str(peek._session._error).startswith(
        f"queue 'q': message {', '.join(f'm{number}' for number in range(confirmed + 1, 4))}: "
    )
    assert len(peek.rescued) == confirmed
