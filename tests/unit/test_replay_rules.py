"""The replay of a dead letter: the message that is published, the messages that stay, and the rate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.amqp.wire.property_codec import Properties
from runner.deadletters import replay as replay_module
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.json_record import digest
from runner.deadletters.origins import Origins
from runner.deadletters.replay_rules import UNLIMITED, Pace, ReplayRules, Tally, replayed_headers
from runner.deadletters.selection import Selection
from runner.errors import BrokerBlocked
from runner.messages import Message, Retry
from runner.topology.model import RetryDelays
from runner.worker.retry import failed_copy

PLACES = Origins({"pay.dlq": ("pay",), "lost": ("mail", "stock")}, {})
NOW = 1_700_000_000_000


def failed(queue: str = "pay.dlq", **headers: Any) -> DeadLetter:
    known = {"message_id": "m1", "type": "t", "correlation_id": None}
    return DeadLetter(queue, known, {name.replace("_", "-"): value for name, value in headers.items()}, b"{}")


def judge(one: DeadLetter, **selection: Any) -> tuple[str | None, str | None]:
    return ReplayRules(PLACES, Selection(**selection), NOW).judge(one)


def test_a_replayed_message_has_no_headers_of_its_dead_letter_and_all_others() -> None:
    message = Message(
        b"{}", "pay", "order.created", "m1", "o1", "c1", "orders", "order.created.usd", {"tenant": "a"}, attempt=3
    )
    parked = dict(failed_copy(message, RetryDelays((), "pay.dlq"), Retry("gateway timed out"), "payment").headers)
    parked |= {
        "x-crashes": 2, "x-signal": "SIGKILL", "x-death": [{"queue": "pay"}], "x-first-death-queue": "pay",
        "x-last-death-reason": "rejected", "x-delivery-count": 1, "x-acquired-count": 1,
    }  # fmt: skip
    assert replayed_headers(DeadLetter("pay.dlq", {}, parked, b""), NOW) == {
        "tenant": "a", "x-causation-id": "c1", "x-first-error": "gateway timed out", "x-origin-queue": "pay",
        "x-origin-exchange": "orders", "x-origin-routing-key": "order.created.usd", "x-replays": 1,
        "x-replayed-at": NOW, "x-sent-at": NOW,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "published"),
    [({}, None), ({"x_sent_at": 5}, 5), ({"x_sent_at": 7, "x_published_at": 5}, 5), ({"x_sent_at": "7"}, None)],
)
def test_a_copy_has_the_time_of_its_replay_and_that_of_its_event(
    headers: dict[str, Any], published: int | None
) -> None:
    found = replayed_headers(failed(**headers), NOW)
    assert (found["x-sent-at"], found.get("x-published-at")) == (NOW, published)


@pytest.mark.parametrize(("before", "after"), [(None, 1), (1, 2), (-3, 1), ("many", 1), (True, 1)])
def test_replays_are_counted(before: object, after: int) -> None:
    assert replayed_headers(failed(x_replays=before), NOW)["x-replays"] == after


def test_a_handler_sees_the_first_exchange_and_key_of_a_message_that_the_broker_dead_lettered() -> None:
    deaths = [
        {"queue": "pay", "exchange": "", "routing-keys": ["pay"]},
        {"queue": "pay", "exchange": "orders", "routing-keys": ["order.created.usd", "cc"]},
    ]
    found = replayed_headers(failed(x_death=deaths), NOW)
    assert (found["x-origin-exchange"], found["x-origin-routing-key"]) == ("orders", "order.created.usd")
    copies = [{"queue": "pay", "exchange": ""}, {"queue": "pay.retry.1s", "exchange": ""}]
    known = replayed_headers(failed(x_death=copies, x_origin_exchange="mine", x_origin_routing_key="k"), NOW)
    assert (known["x-origin-exchange"], known["x-origin-routing-key"]) == ("mine", "k")


FORGED = {
    "x-origin-exchange": "mine", "x-origin-routing-key": "k", "x-origin-queue": "mail", "x-made-id": True,
    "x-redelivered": True, "x-replays": 3, "x-replayed-at": NOW + 5, "x-published-at": 7, "x-attempt": 3,
    "x-first-error": "none", "x-original": {"CC": ["other"]},
}  # fmt: skip


@pytest.mark.parametrize("name", [*FORGED, None])
@pytest.mark.parametrize("reason", ["delivery_limit", "rejected", "expired"])
def test_forged_headers_of_a_copy_are_ignored_in_a_message_that_the_broker_dead_lettered(
    name: str | None, reason: str
) -> None:
    forged = FORGED if name is None else {name: FORGED[name]}
    death = {"queue": "pay", "reason": reason, "exchange": "orders", "routing-keys": ["order.created.usd"]}
    # Before 4.0 the broker adds to a list that the sender wrote.
    for deaths in ([death], [death, {"queue": "pay", "exchange": "", "routing-keys": ["k"]}]):
        one = DeadLetter("pay.dlq", {"message_id": "m1"}, {"tenant": "a", **forged, "x-death": deaths}, b"{}")
        assert (one.replays, one.replayed_at) == (0, 0)
        assert one.published[0] != "mine"
        assert judge(one) == ("pay", None)
        found = replayed_headers(one, NOW)
        assert found["x-original"] == forged
        assert (found["tenant"], found["x-replays"], found["x-replayed-at"]) == ("a", 1, NOW)
        assert found.get("x-origin-exchange", "orders") == "orders"
        assert not found.keys() & (
            forged.keys() - {"x-original", "x-origin-exchange", "x-origin-routing-key", "x-replays", "x-replayed-at"}
        )
        assert one.headers == {"tenant": "a", **forged, "x-death": deaths}, "shown and exported unchanged"


def test_headers_of_a_copy_that_the_broker_dead_lettered_are_used() -> None:
    death = {"queue": "pay", "reason": "delivery_limit", "exchange": "", "routing-keys": ["pay"]}
    one = DeadLetter("pay.dlq", {"message_id": "m1"}, {**FORGED, "x-death": [death]}, b"{}")
    assert (one.replays, one.replayed_at, one.published) == (3, NOW + 5, ("mine", "k"))


def test_a_message_returns_to_its_queue_or_stays_with_a_reason() -> None:
    assert judge(failed()) == ("pay", None)
    assert judge(failed(), match="nothing of it") == (None, None)
    assert judge(failed("lost")) == (None, "the original queue is unknown")
    assert judge(failed(x_replays=2)) == ("pay", None)
    target, why = judge(failed(x_replays=3))
    assert target is None
    assert why is not None
    assert why.startswith("already replayed 3 times")
    assert judge(failed(x_replays=3), ids=frozenset({"m1"})) == ("pay", None)
    assert ReplayRules(PLACES, Selection(), NOW, include_replayed=True).judge(failed(x_replays=3)) == ("pay", None)


def test_of_two_messages_with_one_id_only_the_shown_one_gets_another_body() -> None:
    seen = ReplayRules(PLACES, Selection(frozenset({"m1"})), NOW, only=digest(failed(tenant="a")))
    assert seen.judge(failed(tenant="a")) == ("pay", None)
    assert seen.judge(failed(tenant="b")) == (None, None)


def test_messages_that_were_replayed_since_the_start_are_not_selected() -> None:
    assert judge(failed(x_replays=1, x_replayed_at=NOW - 1)) == ("pay", None)
    assert judge(failed(x_replays=1, x_replayed_at=NOW)) == (None, None)


def test_messages_that_stay_are_counted_by_reason_with_some_examples() -> None:
    tally = Tally()
    for _ in range(5):
        tally.stay(failed(), "full")
    tally.stay(failed("lost"), "gone")
    assert tally.stayed == 6
    assert (tally.stays["pay.dlq"]["full"].count, tally.stays["pay.dlq"]["full"].examples) == (5, ["m1"] * 3)


@given(st.floats(0.1, 1000), st.lists(st.floats(0, 2), min_size=1, max_size=50))
def test_a_rate_is_never_exceeded_by_more_than_a_tenth_of_a_second_s_worth(rate: float, pauses: list[float]) -> None:
    pace, now, went = Pace(rate), 1000.0, []
    for pause in pauses:
        now += pause
        now += pace.wait(now)
        pace.sent(now)
        went.append(now)
    for first in range(len(went)):
        for last in range(first + 1, len(went)):
            assert last - first <= (went[last] - went[first] + 0.1) * rate + 1e-6 * rate + 1e-6


def test_without_a_rate_no_message_waits() -> None:
    pace = Pace(None)
    pace.sent(5.0)
    assert pace.wait(5.0) == 0
    assert Pace(0.5).within(60) == 30
    assert Pace(0.001).within(60) == 1
    assert Pace(1e308).within(60) == UNLIMITED


class Channel:
    """A channel that records its frames."""

    is_open = True

    def __init__(self) -> None:
        self.published = 0
        self.acks: list[tuple[int, bool]] = []

    def basic_publish(self, *_: Any, **__: Any) -> None:
        self.published += 1

    def basic_ack(self, tag: int, *, multiple: bool) -> None:
        self.acks.append((tag, multiple))

    def basic_qos(self, **_: Any) -> None:
        pass

    def basic_consume(self, *_: Any, **__: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("confirmed", "acks"),
    [
        ([], []),
        ([1], [(1, True)]),
        ([1, 2], [(2, True)]),
        ([2], [(2, False)]),
        ([1, 3], [(1, True), (3, False)]),
        ([2, 3], [(2, False), (3, False)]),
    ],
)
def test_a_stall_leaves_no_replayed_message_in_its_dead_letter_queue(
    monkeypatch: pytest.MonkeyPatch, confirmed: list[int], acks: list[tuple[int, bool]]
) -> None:
    rules: Any = SimpleNamespace(judge=lambda _: ("orders", None))
    tally = Tally()
    one = replay_module._Replay(
        "amqp://127.0.0.1:1/", "orders.dlq", 9, rules, Pace(None), tally, None, lambda _: None, lambda: False
    )
    channel: Any = Channel()
    one._channel, one._expected = channel, 9
    one._unconfirmed.use(channel)
    monkeypatch.setattr(one._session, "_connection", SimpleNamespace(is_open=False))
    for tag in range(1, 5):
        method = pika.spec.Basic.Deliver("ct", tag, False, "", "orders.dlq")
        one._on_delivery(channel, method, Properties.of(message_id=str(tag)), b"")
    assert channel.published == 4
    for number in confirmed:
        one._unconfirmed.on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(number, False)))
    assert channel.acks == []
    monkeypatch.setattr(replay_module, "CONFIRM_TIMEOUT", -1.0)
    one._tick()
    one._session.loop.close()
    assert (channel.acks, tally.replayed) == (acks, len(confirmed))
    assert isinstance(one._session._error, BrokerBlocked)
