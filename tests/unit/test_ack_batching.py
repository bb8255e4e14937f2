"""The batching of acknowledgements, against a broker that closes the channel for a wrong ack."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.amqp.ack_batching import AckBatch


class Broker:
    """One channel as RabbitMQ sees it: an ack of a tag that is not outstanding closes the channel (406)."""

    def __init__(self) -> None:
        self.outstanding: set[int] = set()
        self.acked: list[int] = []

    def ack(self, tag: int, multiple: bool) -> None:
        assert tag in self.outstanding, f"PRECONDITION_FAILED - unknown delivery tag {tag}"
        tags = {one for one in self.outstanding if one <= tag} if multiple else {tag}
        self.outstanding -= tags
        self.acked.extend(sorted(tags))


class AckMachine(RuleBasedStateMachine):
    """Deliveries that arrive and end in any order, and acks that are collected at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker()
        self.ledger = AckBatch()
        self.delivered = 0
        self.unfinished: set[int] = set()
        self.done: set[int] = set()

    @rule(count=st.integers(1, 5))
    def deliver(self, count: int) -> None:
        for _ in range(count):
            self.delivered += 1
            self.broker.outstanding.add(self.delivered)
            self.unfinished.add(self.delivered)

    @precondition(lambda self: self.unfinished)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(sorted(self.unfinished)))
        self.unfinished.remove(tag)
        self.done.add(tag)
        self.ledger.done(tag)

    @rule()
    def take(self) -> None:
        for tag, multiple in self.ledger.take():
            self.broker.ack(tag, multiple)
        assert set(self.broker.acked) == self.done, "exactly the finished deliveries are acknowledged now"
        assert self.ledger.take() == []

    @invariant()
    def each_is_acknowledged_once_and_not_before_it_is_done(self) -> None:
        assert len(self.broker.acked) == len(set(self.broker.acked))
        assert set(self.broker.acked) <= self.done
        assert self.unfinished <= self.broker.outstanding


TestAckLedger = AckMachine.TestCase
TestAckLedger.settings = settings(deadline=None)


def test_contiguous_deliveries_are_one_ack() -> None:
    ledger = AckBatch()
    for tag in (3, 1, 2):
        ledger.done(tag)
    assert ledger.take() == [(3, True)]
    assert ledger.take() == []


def test_a_delivery_behind_an_unfinished_one_is_acknowledged_alone() -> None:
    ledger = AckBatch()
    ledger.done(2)
    assert ledger.take() == [(2, False)]
    ledger.done(1)
    assert ledger.take() == [(1, True)]
    ledger.done(3)
    assert ledger.take() == [(3, True)]


@settings(deadline=None)
@given(st.permutations(range(1, 60)))
def test_a_channel_without_deliveries_keeps_no_memory(order: list[int]) -> None:
    ledger = AckBatch()
    for tag in order:
        ledger.done(tag)
        ledger.take()
    assert (ledger._done, ledger._answered, ledger._next) == (set(), set(), 60)
