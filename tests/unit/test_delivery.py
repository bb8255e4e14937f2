"""The lifecycle of a delivery, with any answers of a handler, a database and a broker, in any order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.amqp.properties import encode
from runner.errors import BrokerError, BrokerUnreachable, ConfirmTimeout, EventTooLarge, PublishRefused, Unroutable
from runner.messages import Event, Reject
from runner.worker.delivery import (
    ENDS,
    TRANSITIONS,
    DeliveryAction,
    DeliveryEvent,
    DeliveryLifecycle,
    DeliveryState,
    IllegalEvent,
)
from runner.worker.pipeline import Pipeline
from runner.worker.runtime import Runtime
from tests.diagram import PAGE, PICTURE, picture, table, tabled

S, E, A = DeliveryState, DeliveryEvent, DeliveryAction
ERRORS = [BrokerUnreachable, ConfirmTimeout, PublishRefused, EventTooLarge, Unroutable]
#: Messages, and their purposes.
MESSAGES = [encode(Event("done", {"n": number}, exchange="e", id=str(number))) for number in range(4)]


def at(state: DeliveryState) -> DeliveryLifecycle:
    one = DeliveryLifecycle(cast(Any, None), 0.0)
    one.state = state
    return one


def reached(start: DeliveryState) -> set[DeliveryState]:
    """Return all states that events lead to from a state."""
    found, new = {start}, {start}
    while new:
        new = {after for (before, _), (after, _) in TRANSITIONS.items() if before in new} - found
        found |= new
    return found


def test_every_state_is_reached_from_the_first_and_reaches_an_end() -> None:
    assert reached(S.RECEIVED) == set(S)
    assert {state for state in S if reached(state) == {state}} == set(ENDS)
    assert all(reached(state) & set(ENDS) for state in S)


def test_every_event_and_every_action_has_its_place() -> None:
    assert {event for _, event in TRANSITIONS} == set(E)
    assert {action for _, action in TRANSITIONS.values()} == set(A)
    runtime = Runtime(lambda *_: None, lambda: None, logging.getLogger())
    nothing: Any = None
    pipeline = Pipeline(nothing, nothing, nothing, None, nothing, nothing, runtime, nothing, logging.getLogger())
    assert pipeline._perform.keys() == set(A), "the pipeline performs each of them"


def test_only_an_acknowledgement_follows_the_confirms_and_only_then() -> None:
    for (before, event), (after, action) in TRANSITIONS.items():
        acks = action in (A.ACK, A.ACK_UNRECORDED)
        assert acks == (after is S.ACKED)
        assert not acks or before is S.RECORDING
        assert (after is S.RECORDING and before is not S.RECORDING) == (
            event is E.CONFIRMED and before in (S.PUBLISHING, S.RETRYING, S.DEAD_LETTERING)
        )


def test_the_page_about_deliveries_shows_every_state_and_transition() -> None:
    assert tabled(PAGE.read_text("utf-8")) == table(), "run make schema"
    assert PICTURE.read_text("utf-8") == picture(), "run make schema"


@pytest.mark.parametrize(
    ("errors", "event"),
    [
        ([None], E.CONFIRMED),
        ([None, None, None], E.CONFIRMED),
        ([None, BrokerUnreachable("away")], E.UNCONFIRMED),
        ([ConfirmTimeout("late"), PublishRefused("full")], E.UNCONFIRMED),
        ([PublishRefused("full"), BrokerUnreachable("away")], E.REFUSED),
        ([BrokerUnreachable("away"), EventTooLarge("too large")], E.TOO_LARGE),
        ([PublishRefused("full"), Unroutable("no queue"), EventTooLarge("too large")], E.UNROUTABLE),
        ([None, Unroutable("no queue")], E.UNROUTABLE),
    ],
)
def test_the_answers_for_several_messages_become_one_event(
    errors: list[BrokerError | None], event: DeliveryEvent
) -> None:
    one = at(S.PUBLISHING)
    one.outgoing = MESSAGES[: len(errors)]
    answers = [one.answered(*answer) for answer in zip(one.publish(), errors, strict=True)]
    assert answers == [None] * (len(errors) - 1) + [event]
    failed = [message for message, error in zip(MESSAGES, errors, strict=False) if error is not None]
    assert list(one.outgoing) == (failed if failed else MESSAGES[: len(errors)]), (
        "only the failed messages are published again"
    )
    assert event is E.CONFIRMED or one.problem in errors


def test_an_event_that_is_too_large_fails_its_message_and_a_copy_that_is_makes_the_broker_dead_letter_it() -> None:
    error = EventTooLarge("too large")
    for before, after, action in ((S.PUBLISHING, S.FAILED, A.QUEUE), (S.RETRYING, S.REJECTED, A.REJECT)):
        one = at(before)
        one.outgoing = MESSAGES[:1]
        answer = one.answered(one.publish()[0], error)
        assert answer is not None
        assert one.step(answer) is action
        assert one.state is after
        assert one.problem is error
        assert not isinstance(one.problem, Reject), "the message has its retries"


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (S.RECEIVED, E.CONFIRMED), (S.HANDLING, E.TAKEN), (S.COMMITTING, E.CONFIRMED), (S.PUBLISHING, E.COMMITTED),
        (S.ACKED, E.CONFIRMED), (S.REJECTED, E.TAKEN), (S.REQUEUED, E.LOST), (S.RETRYING, E.DEAD_LETTER),
    ],
)  # fmt: skip
def test_an_impossible_event_raises_and_changes_nothing(state: DeliveryState, event: DeliveryEvent) -> None:
    one = at(state)
    with pytest.raises(IllegalEvent, match=f"^event {event} in state {state}$"):
        one.step(event)
    assert one.state is state


class DeliveryMachine(RuleBasedStateMachine):
    """A worker that performs the actions. The rules cause the events."""

    @initialize()
    def receive(self) -> None:
        self.one = DeliveryLifecycle(cast(Any, None), 0.0)
        #: The next action. None while the delivery waits in the queue of the handler threads.
        self.action: DeliveryAction | None = None
        #: The messages that must be confirmed before the delivery is acknowledged.
        self.owed: set[int] = set()
        self.runs = self.ends = 0

    def feed(self, event: DeliveryEvent) -> None:
        assert self.one.state not in ENDS
        before = self.one.state
        self.action = self.one.step(event)
        if self.one.state in ENDS:
            self.ends += 1
        if self.action in (A.QUEUE, A.AWAIT_OTHER, A.HANDLE_LATER, A.PUBLISH_LATER):
            self.action = None
        elif self.action in (A.PUBLISH, A.PUBLISH_AT_ONCE):
            assert before is not S.RECORDING or len(self.one.outgoing) == 1
            if not self.one.publish():
                self.feed(E.CONFIRMED)
        elif self.action in (A.ACK, A.ACK_UNRECORDED):
            assert not self.owed, "acknowledged before all is confirmed"

    def returns(self, count: int) -> None:
        """Handle the return of a handler, after which this many messages need confirms."""
        self.one.outgoing = MESSAGES[:count]
        self.owed = {id(one) for one in self.one.outgoing}

    @precondition(lambda self: self.action is None and not self.one.unanswered)
    @rule(is_lost=st.sampled_from([False, False, False, True]))
    def take_from_the_queue(self, is_lost: bool) -> None:
        self.feed(E.LOST if is_lost else E.TAKEN)

    @precondition(lambda self: self.action is A.HANDLE)
    @rule(
        event=st.sampled_from([E.HANDLED, E.HANDLED, E.DUPLICATE, E.WRITTEN, E.BUSY, E.UNREACHABLE, E.FAILED]),
        count=st.integers(0, 3),
    )
    def handle(self, event: DeliveryEvent, count: int) -> None:
        self.runs += event in (E.HANDLED, E.WRITTEN, E.FAILED)
        if event in (E.HANDLED, E.DUPLICATE, E.WRITTEN):
            self.returns(count)
        self.feed(event)

    @precondition(lambda self: self.action is A.AWAIT_COMMIT)
    @rule(event=st.sampled_from([E.COMMITTED, E.COMMITTED, E.DUPLICATE, E.UNREACHABLE, E.FAILED]))
    def commit(self, event: DeliveryEvent) -> None:
        self.feed(event)

    @precondition(lambda self: self.action is A.DECIDE)
    @rule(event=st.sampled_from([E.RETRY, E.DEAD_LETTER, E.UNFIT, E.LOST]))
    def decide(self, event: DeliveryEvent) -> None:
        self.returns(1 if event in (E.RETRY, E.DEAD_LETTER) else 0)
        self.feed(event)

    @precondition(lambda self: self.one.unanswered)
    @rule(error=st.sampled_from([None, None, None, *ERRORS]))
    def hear_of_one_message(self, error: Callable[[str], BrokerError] | None) -> None:
        message = self.one.outgoing[-self.one.unanswered]
        with pytest.raises(IllegalEvent, match=" unconfirmed"):
            self.one.step(E.CONFIRMED)
        event = self.one.answered(message, error("why") if error is not None else None)
        if error is None:
            self.owed.discard(id(message))
        if event is not None:
            self.feed(event)

    @precondition(lambda self: self.action is A.RECORD)
    @rule(is_recorded=st.booleans())
    def record(self, is_recorded: bool) -> None:
        assert not self.owed, "recorded before all is confirmed"
        if is_recorded:
            self.one.outgoing = MESSAGES[3:]
            self.one.publish()
            self.action = A.PUBLISH
        else:
            self.feed(E.UNRECORDED)

    @precondition(lambda self: self.action is not A.RECORD)
    @rule(event=st.sampled_from(E))
    def nothing_else_is_legal(self, event: DeliveryEvent) -> None:
        if (self.one.state, event) in TRANSITIONS and not self.one.unanswered:
            return
        before = self.one.state
        with pytest.raises(IllegalEvent):
            self.one.step(event)
        assert self.one.state is before

    @invariant()
    def it_ends_at_most_once_and_only_in_an_end(self) -> None:
        assert self.ends == (self.one.state in ENDS)
        assert self.one.state is not S.ACKED or not self.owed

    @invariant()
    def it_waits_for_something_until_its_end(self) -> None:
        waits = self.action is None or self.one.unanswered > 0
        must_act = self.action in (A.HANDLE, A.AWAIT_COMMIT, A.DECIDE, A.RECORD)
        assert waits or must_act or self.one.state in ENDS

    def teardown(self) -> None:
        """Check that every delivery ends once all failures stop."""
        for _ in range(12):
            if self.one.state in ENDS:
                break
            if self.one.unanswered:
                self.hear_of_one_message(None)
            elif self.action is None:
                self.take_from_the_queue(is_lost=False)
            elif self.action is A.HANDLE:
                self.handle(E.HANDLED, 1)
            elif self.action is A.AWAIT_COMMIT:
                self.commit(E.COMMITTED)
            elif self.action is A.DECIDE:
                self.decide(E.DEAD_LETTER)
            else:
                self.record(is_recorded=True)
        assert self.one.state in ENDS
        assert self.ends == 1


TestDelivery = DeliveryMachine.TestCase
TestDelivery.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
