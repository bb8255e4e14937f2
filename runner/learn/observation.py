"""An observation of a running system, at one moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.history.records import DEAD_LETTERED, AttemptRow, EventRow

#: The type of the event that reports an approved charge.
PAID_EVENT, DECLINED_EVENT = "payment.success", "payment.failed"
#: The status of an order without an outcome.
ACCEPTED = "accepted"


@dataclass(frozen=True)
class Response:
    """The response to one post."""

    #: The HTTP status, or 0 if there was no response.
    status: int
    order: str | None
    #: The time of the response, in seconds since the epoch, and the time until the response, in seconds.
    at: float
    took: float
    #: The number of the step that posted the order.
    group: int


@dataclass(frozen=True)
class LogLine:
    """One line in the log of the system."""

    #: Seconds since the epoch.
    at: float
    service: str
    slot: str
    message: str
    order: str | None = None
    #: The event that the line reports, for a charge or an e-mail.
    event: str | None = None


@dataclass(frozen=True)
class Observation:
    """The state of a system and everything that has happened in it. By default, nothing has happened."""

    responses: Sequence[Response] = ()
    #: The ready messages of each queue, or None for a queue that does not exist.
    ready: Mapping[str, int | None] = field(default_factory=dict)
    #: The routing keys of the ready messages, for queues whose keys are expected.
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lines: Sequence[LogLine] = ()
    attempts: Sequence[AttemptRow] = ()
    #: The events in the event history.
    events: Sequence[EventRow] = ()
    #: The slots in the supervisor's status.
    slots: Sequence[Mapping[str, Any]] = ()
    #: The queues that each service consumes.
    consumes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: The services with the ``payment`` plugin and with the ``notification`` plugin.
    payments: frozenset[str] = frozenset({"payment"})
    notifications: frozenset[str] = frozenset({"notification"})
    #: True while a step continues in the background.
    is_busy: bool = False
    #: The number of events that are waiting in the outbox.
    outbox_waiting: int = 0

    @property
    def accepted(self) -> list[str]:
        """The ids of the accepted orders, each once."""
        return list(dict.fromkeys(one.order for one in self.responses if one.status == 202 and one.order))

    def charges(self, event: str = PAID_EVENT) -> Counter[str]:
        """Return the number of charges by order. ``event`` is the outcome."""
        return Counter(
            one.order for one in self.lines if one.service in self.payments and one.event == event and one.order
        )

    def emails(self) -> list[LogLine]:
        """Return the log lines that report sent e-mails."""
        return [one for one in self.lines if one.service in self.notifications and one.event]

    def statuses(self) -> dict[str, str]:
        """Return the status of each accepted order."""
        paid, declined = self.charges(), self.charges(DECLINED_EVENT)
        last = {one.order_id: one.outcome for one in self.attempts if one.service in self.payments}
        found = {}
        for order in self.accepted:
            outcome = "paid" if paid[order] else "declined" if declined[order] else ACCEPTED
            found[order] = DEAD_LETTERED if outcome == ACCEPTED and last.get(order) == DEAD_LETTERED else outcome
        return found

    def slowest_order(self) -> str | None:
        """Return the accepted order with the longest time from its response to its last attempt, or None."""
        posted = {one.order: one.at for one in self.responses}
        last: dict[str | None, int] = {}
        for one in self.attempts:
            last[one.order_id] = max(one.ended_at, last.get(one.order_id, 0))
        return max(self.accepted, key=lambda order: last.get(order, 0) - posted[order] * 1000, default=None)

    def unacked(self, queue: str) -> int:
        """Return the unacked messages of the services that consume a queue."""
        readers = {name for name, queues in self.consumes.items() if queue in queues}
        return sum(one["in_hand"] or 0 for one in self.slots if one["service"] in readers)

    def running(self, service: str) -> int:
        """Return the number of running processes of a service."""
        return sum(one["service"] == service and one["state"] == "RUNNING" for one in self.slots)

    def handled(self, name: str) -> int:
        """Return the number of messages that a service, or a process such as ``payment.2``, has handled."""
        found = [one for one in self.attempts if name in (one.service, one.instance) and one.outcome == "handled"]
        return len(found)

    @property
    def is_quiet(self) -> bool:
        """True if nothing moves: no message is in flight or about to be delivered, and no process is starting."""
        is_moving = any(one["in_hand"] or one["state"] in _MOVING for one in self.slots)
        read = {queue for queues in self.consumes.values() for queue in queues if self._has_reader(queue)}
        waits = any(count for queue, count in self.ready.items() if queue in read or ".retry." in queue)
        return not (self.is_busy or is_moving or waits or self.outbox_waiting)

    def _has_reader(self, queue: str) -> bool:
        return any(queue in queues and self.running(name) for name, queues in self.consumes.items())

    def fingerprint(self) -> object:
        """Return a value that changes whenever something happens."""
        states = tuple((one["slot"], one["state"], one["pid"]) for one in self.slots)
        counts = len(self.responses), len(self.attempts), len(self.events), len(self.lines)
        return (*counts, tuple(sorted(self.ready.items(), key=lambda one: one[0])), states)


#: The states of a slot that will soon change.
_MOVING = ("STARTING", "STOPPING", "BACKOFF")
