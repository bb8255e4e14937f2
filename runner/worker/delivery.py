"""The lifecycle of a delivery: its states, the events in each state, and the resulting actions.

This module performs no I/O, never waits, and never reads a clock. ``runner.worker.pipeline`` performs the actions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from runner.errors import BrokerError, EventTooLarge, PublishRefused, Unroutable

if TYPE_CHECKING:
    from runner.amqp.consumer import Delivery
    from runner.amqp.properties import Encoded
    from runner.messages import Message
    from runner.worker.retry import Failure
    from runner.worker.storage import DeliveryStore


class DeliveryState(StrEnum):
    """A state of a delivery."""

    #: The delivery is waiting for a handler thread.
    RECEIVED = "received"
    #: A handler thread is processing the delivery.
    HANDLING = "handling"
    #: The delivery is waiting for the database, or for another delivery of the same message in this process.
    POSTPONED = "postponed"
    #: The handler has returned, but its transaction is not committed yet.
    COMMITTING = "committing"
    #: The broker has not yet confirmed all of the handler's events.
    PUBLISHING = "publishing"
    #: The attempt has failed, and a handler thread is choosing between a retry queue and the dead-letter queue.
    FAILED = "failed"
    #: The broker has not yet confirmed the copy for the retry queue.
    RETRYING = "retrying"
    #: The broker has not yet confirmed the copy for the dead-letter queue.
    DEAD_LETTERING = "dead-lettering"
    #: The broker has not yet confirmed the attempt report.
    RECORDING = "recording"
    #: The final state of a delivery that the worker has acknowledged.
    ACKED = "acked"
    #: The final state of a rejected delivery. No copy could be published, so the broker itself dead-letters the
    #: message.
    REJECTED = "rejected"
    #: The final state of a delivery that remains unacknowledged, so that the broker redelivers the message.
    REQUEUED = "requeued"


class DeliveryEvent(StrEnum):
    """An event in the lifecycle of a delivery."""

    #: A handler thread has taken the delivery from the queue.
    TAKEN = "taken"
    #: The channel has closed, or the worker is stopping before the handler has started.
    LOST = "lost"
    #: The handler has returned, and there are no writes to commit.
    HANDLED = "handled"
    #: The handler has returned, and its transaction is waiting to be committed.
    WRITTEN = "written"
    #: The transaction has been committed.
    COMMITTED = "committed"
    #: The message was already handled. The events of the earlier delivery are published again.
    DUPLICATE = "duplicate"
    #: Another handler thread is processing the same message.
    BUSY = "busy"
    #: The database is unreachable.
    UNREACHABLE = "unreachable"
    #: The handler has raised an exception, or the database has refused the handler's writes.
    FAILED = "failed"
    #: The message has attempts left.
    RETRY = "retry"
    #: The message has no attempts left.
    DEAD_LETTER = "dead-letter"
    #: The message cannot be copied.
    UNFIT = "unfit"
    #: The broker has confirmed all published messages.
    CONFIRMED = "confirmed"
    #: The broker is unreachable, is not accepting messages, or has not sent all confirms in time.
    UNCONFIRMED = "unconfirmed"
    #: The broker has refused a message, for example because a queue is full.
    REFUSED = "refused"
    #: The broker could not route a message to any queue.
    UNROUTABLE = "unroutable"
    #: A message exceeds the broker's size limit.
    TOO_LARGE = "too large"
    #: Attempts are not recorded, or this attempt cannot be reported.
    UNRECORDED = "unrecorded"


class DeliveryAction(StrEnum):
    """An action that the pipeline performs after an event."""

    HANDLE = "handle"
    #: Continue when the commit has finished.
    AWAIT_COMMIT = "await the commit"
    #: Handle the delivery after the other delivery of the same message.
    AWAIT_OTHER = "await the other delivery"
    HANDLE_LATER = "handle later"
    #: Pass the delivery to a handler thread. The decision may block, and the current thread must not block.
    QUEUE = "queue"
    #: Choose between the retry queue and the dead-letter queue.
    DECIDE = "decide"
    #: Wait for space in the publisher's window, then publish.
    PUBLISH = "publish"
    #: Publish even if the publisher's window is full, because the current thread must not wait.
    PUBLISH_AT_ONCE = "publish at once"
    PUBLISH_LATER = "publish later"
    #: Publish a report about the attempt.
    RECORD = "record the attempt"
    #: Count the attempt report as lost, then acknowledge the delivery.
    ACK_UNRECORDED = "ack without the record"
    ACK = "ack"
    REJECT = "reject"
    #: Leave the delivery unacknowledged, so that the broker redelivers the message.
    RELEASE = "release"
    #: Leave the delivery unacknowledged, and exit so that the next start declares the topology again.
    REPORT_MISSING = "report the missing queue"


S, E, A = DeliveryState, DeliveryEvent, DeliveryAction
#: The next state and the action for each pair of state and event. Any other pair is illegal.
TRANSITIONS: Mapping[tuple[DeliveryState, DeliveryEvent], tuple[DeliveryState, DeliveryAction]] = {
    (S.RECEIVED, E.TAKEN): (S.HANDLING, A.HANDLE),
    (S.RECEIVED, E.LOST): (S.REQUEUED, A.RELEASE),
    (S.HANDLING, E.HANDLED): (S.PUBLISHING, A.PUBLISH),
    (S.HANDLING, E.DUPLICATE): (S.PUBLISHING, A.PUBLISH),
    (S.HANDLING, E.WRITTEN): (S.COMMITTING, A.AWAIT_COMMIT),
    (S.HANDLING, E.BUSY): (S.POSTPONED, A.AWAIT_OTHER),
    (S.HANDLING, E.UNREACHABLE): (S.POSTPONED, A.HANDLE_LATER),
    (S.HANDLING, E.FAILED): (S.FAILED, A.DECIDE),
    (S.POSTPONED, E.TAKEN): (S.HANDLING, A.HANDLE),
    (S.POSTPONED, E.LOST): (S.REQUEUED, A.RELEASE),
    (S.COMMITTING, E.COMMITTED): (S.PUBLISHING, A.PUBLISH_AT_ONCE),
    (S.COMMITTING, E.DUPLICATE): (S.PUBLISHING, A.PUBLISH_AT_ONCE),
    (S.COMMITTING, E.UNREACHABLE): (S.POSTPONED, A.HANDLE_LATER),
    (S.COMMITTING, E.FAILED): (S.FAILED, A.QUEUE),
    (S.PUBLISHING, E.CONFIRMED): (S.RECORDING, A.RECORD),
    (S.PUBLISHING, E.UNCONFIRMED): (S.PUBLISHING, A.PUBLISH_LATER),
    (S.PUBLISHING, E.REFUSED): (S.PUBLISHING, A.PUBLISH_LATER),
    (S.PUBLISHING, E.UNROUTABLE): (S.FAILED, A.QUEUE),
    (S.PUBLISHING, E.TOO_LARGE): (S.FAILED, A.QUEUE),
    (S.PUBLISHING, E.TAKEN): (S.PUBLISHING, A.PUBLISH),
    (S.PUBLISHING, E.LOST): (S.REQUEUED, A.RELEASE),
    (S.FAILED, E.TAKEN): (S.FAILED, A.DECIDE),
    (S.FAILED, E.RETRY): (S.RETRYING, A.PUBLISH),
    (S.FAILED, E.DEAD_LETTER): (S.DEAD_LETTERING, A.PUBLISH),
    (S.FAILED, E.UNFIT): (S.REJECTED, A.REJECT),
    (S.FAILED, E.LOST): (S.REQUEUED, A.RELEASE),
    **{
        (state, event): transition
        for state in (S.RETRYING, S.DEAD_LETTERING)
        for event, transition in {
            E.CONFIRMED: (S.RECORDING, A.RECORD),
            E.UNCONFIRMED: (state, A.PUBLISH_LATER),
            E.REFUSED: (state, A.PUBLISH_LATER),
            E.UNROUTABLE: (S.REQUEUED, A.REPORT_MISSING),
            E.TOO_LARGE: (S.REJECTED, A.REJECT),
            E.TAKEN: (state, A.PUBLISH),
            E.LOST: (S.REQUEUED, A.RELEASE),
        }.items()
    },
    (S.RECORDING, E.CONFIRMED): (S.ACKED, A.ACK),
    (S.RECORDING, E.UNRECORDED): (S.ACKED, A.ACK),
    (S.RECORDING, E.UNCONFIRMED): (S.RECORDING, A.PUBLISH_LATER),
    (S.RECORDING, E.REFUSED): (S.ACKED, A.ACK_UNRECORDED),
    (S.RECORDING, E.UNROUTABLE): (S.ACKED, A.ACK_UNRECORDED),
    (S.RECORDING, E.TOO_LARGE): (S.ACKED, A.ACK_UNRECORDED),
    (S.RECORDING, E.TAKEN): (S.RECORDING, A.PUBLISH),
    (S.RECORDING, E.LOST): (S.REQUEUED, A.RELEASE),
}
#: The final states.
ENDS = (S.ACKED, S.REJECTED, S.REQUEUED)


class IllegalEvent(Exception):
    """The error for an event that is illegal in the current state of a delivery."""


class DeliveryLifecycle:
    """The state and the data of one delivery.

    Only one thread at a time calls ``step``. After publishing, the thread that receives the last confirm calls
    ``step``.
    """

    __slots__ = (
        "committed", "delivery", "failed_publishes", "failure", "handler_started", "handler_time", "is_begun",
        "is_duplicate", "message", "outgoing", "problem", "received_at", "sent_at", "state", "store", "thread", "times",
        "unanswered", "unconfirmed", "until",
    )  # fmt: skip

    def __init__(self, delivery: Delivery, received_at: float) -> None:
        """``received_at`` is the monotonic time of the delivery, in seconds."""
        self.delivery, self.received_at = delivery, received_at
        self.state = S.RECEIVED
        self.message: Message
        #: The number of the delivery's handler thread, counted from 0.
        self.thread = 0
        self.store: DeliveryStore
        #: A function that registers a callback, which is called when the awaited commit or delivery has finished.
        self.until: Callable[[Callable[..., None]], None]
        #: A function that returns the event for a finished commit, or raises the commit's error.
        self.committed: Callable[[Future[Any]], DeliveryEvent]
        #: The messages to publish in this state, the number of messages that have no answer yet, and the failed
        #: messages.
        self.outgoing: Sequence[Encoded] = ()
        self.unanswered = 0
        self.unconfirmed: list[tuple[Encoded, BrokerError]] = []
        #: The time at which the messages were sent, in nanoseconds since the epoch, or 0 if it was not needed.
        self.sent_at = 0
        #: The number of times that the broker did not confirm all published messages.
        self.failed_publishes = 0
        #: The latest error, and the decision about the failed attempt.
        self.problem: BaseException
        self.failure: Failure | None = None
        #: The start and end of the attempt, in milliseconds since the epoch. None if no handler was called.
        self.times: tuple[int, int] | None = None
        #: The time that the handler ran, in seconds, and the monotonic time of its start. None if the handler was not
        #: timed.
        self.handler_time: float | None = None
        self.handler_started: float
        #: True once the attempt has begun. A postponed delivery is still the same attempt.
        self.is_begun = False
        self.is_duplicate = False

    def step(self, event: DeliveryEvent) -> DeliveryAction:
        """Change to the next state and return the action to perform.

        Raises IllegalEvent without changing the state.
        """
        if self.unanswered:
            raise IllegalEvent(f"event {event} in state {self.state} with {self.unanswered} unconfirmed messages")
        try:
            self.state, action = TRANSITIONS[self.state, event]
        except KeyError:
            raise IllegalEvent(f"event {event} in state {self.state}") from None
        return action

    def publish(self) -> Sequence[Encoded]:
        """Return the messages to publish. The caller must call ``answered`` for each message."""
        self.unconfirmed = []
        self.unanswered = len(self.outgoing)
        return self.outgoing

    def answered(self, encoded: Encoded, error: BrokerError | None) -> DeliveryEvent | None:
        """Record the confirm or the error for a message. After the last answer, return the event for all messages."""
        if error is not None:
            self.unconfirmed.append((encoded, error))
        # Use a local copy, because another thread may record the last answer in the meantime.
        self.unanswered = left = self.unanswered - 1
        if left:
            return None
        if not self.unconfirmed:
            return E.CONFIRMED
        errors = [error for _, error in self.unconfirmed]
        # An unroutable or oversized message would fail every time, so its error determines the event for all messages.
        final = [error for error in errors if isinstance(error, Unroutable | EventTooLarge)]
        self.problem = problem = (final or errors)[0]
        # The failed messages are published again with the same ids.
        self.outgoing = [encoded for encoded, _ in self.unconfirmed]
        if final:
            return E.UNROUTABLE if isinstance(problem, Unroutable) else E.TOO_LARGE
        return E.REFUSED if isinstance(problem, PublishRefused) else E.UNCONFIRMED
