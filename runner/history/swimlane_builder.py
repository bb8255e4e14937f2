"""The building of a swimlane from an order's history."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.history.entries import delay_text, duration
from runner.history.order_history import OrderHistory
from runner.history.records import DEAD_LETTERED, AttemptRow, EventRow
from runner.history.swimlane import BarKind, CauseLine, Swimlane, SwimlaneRow, TimeBar, TimeMark

#: The queues that get a copy of an event, with the service that consumes each queue, by event id.
Copies = Mapping[str, Sequence[tuple[str, str]]]


@dataclass
class _Group:
    """The bars and marks of one message in one row, which share a track."""

    message_id: str
    row: SwimlaneRow
    parts: list[TimeBar | TimeMark] = field(default_factory=list)
    track: int = 0

    def extent(self) -> tuple[float, float]:
        """Return the first and the last time of the group."""
        begins = [one.begin if isinstance(one, TimeBar) else one.at for one in self.parts]
        ends = [_end_of(one) for one in self.parts]
        return min(begins), max(ends)


def _end_of(part: TimeBar | TimeMark) -> float:
    if isinstance(part, TimeMark):
        return part.at
    return math.inf if part.end is None else part.end


_DONE = {
    "handled": "handled the message",
    "duplicate": "skipped a duplicate",
    "retried": "failed",
    DEAD_LETTERED: "failed, without a further attempt,",
}


def swimlane_of(history: OrderHistory, copies: Copies | None = None) -> Swimlane:
    """Return the swimlane of an order.

    ``copies`` contains the queues that the topology's bindings select. A copy without a recorded attempt still waits,
    or is being handled.
    """
    build = _Build(history)
    for delivered in build.deliveries.values():
        build.add_delivery(delivered)
    for event in history.events:
        build.add_event(event, (copies or {}).get(event.id, ()))
    return build.finished()


class _Build:
    """The rows of a swimlane while they are built."""

    def __init__(self, history: OrderHistory) -> None:
        self.history = history
        self.start = history.entries[0].at if history.entries else 0
        self.steps = {id(one.row): number for number, one in enumerate(history.entries) if one.kind != "replayed"}
        self.replays = {id(one.row): number for number, one in enumerate(history.entries) if one.kind == "replayed"}
        self.deliveries: dict[tuple[str, str], list[AttemptRow]] = defaultdict(list)
        for one in sorted(history.attempts, key=lambda one: (one.replays, one.attempt, one.ended_at)):
            self.deliveries[one.queue, one.message_id].append(one)
        # A note about a discarded message does not name the service of the queue.
        self.services = {one.queue: one.service for one in history.attempts if one.outcome != "discarded"}
        self.rows: dict[tuple[str, str], SwimlaneRow] = {}
        self.groups: list[_Group] = []
        #: The row in which each event was published.
        self.sources: dict[str, SwimlaneRow] = {}

    def group(self, message_id: str, service: str, queue: str) -> _Group:
        """Add a group of parts to the row of a queue."""
        found = _Group(message_id, self.rows.setdefault((service, queue), SwimlaneRow(service, queue)))
        self.groups.append(found)
        return found

    def at(self, time: int) -> int:
        # The clocks of two machines can differ, but nothing precedes the start of the order.
        return max(0, time - self.start)

    def published_at(self, event: EventRow) -> int:
        """Return the time in the order history, which follows the attempt that published the event."""
        step = self.steps.get(id(event))
        return self.at(event.published_at if step is None else self.history.entries[step].at)

    def add_delivery(self, delivered: Sequence[AttemptRow]) -> None:
        """Add all attempts on one message in one queue."""
        first, last = delivered[0], delivered[-1]
        group = self.group(first.message_id, self.services.get(first.queue, first.service), first.queue)
        for before, one in zip([None, *delivered], delivered, strict=False):
            group.parts += self.parts(before, one)
        group.parts += self.open_wait(last)

    def parts(self, before: AttemptRow | None, one: AttemptRow) -> Iterator[TimeBar | TimeMark]:
        """Yield the waits before an attempt, and the attempt. ``before`` is the previous attempt."""
        step, sent = self.steps.get(id(one)), one.sent_at
        if before is not None and one.replays > before.replays:
            sent = one.replayed_at or one.sent_at or one.began_at
            replay = self.replays.get(id(one), step)
            yield from self.wait(BarKind.DEAD, before.ended_at, sent, replay, one.queue)
            yield TimeMark("replayed", self.at(sent), replay, "replayed")
        elif one.outcome == "discarded":
            if before is not None:
                kind = BarKind.DEAD if before.outcome == DEAD_LETTERED else BarKind.RETRY
                yield from self.wait(kind, before.ended_at, one.ended_at, step, one.queue)
        elif before is not None:
            sent = before.ended_at
            if before.outcome == "retried":
                sent = min(sent + (before.delay or 0), one.began_at)
                yield from self.wait(BarKind.RETRY, before.ended_at, sent, step, one.queue)
        if one.outcome == "discarded":
            yield TimeMark("discarded", self.at(one.ended_at), step, "discarded")
            return
        if sent is not None:
            yield from self.wait(BarKind.QUEUED, sent, one.began_at, step, one.queue)
        yield self.attempt(one, step)

    def wait(self, kind: BarKind, begin: int, end: int, step: int | None, queue: str) -> Iterator[TimeBar]:
        """Yield the bar of a wait, unless the wait has no length."""
        length = self.at(end) - self.at(begin)
        if length > 0:
            time = duration(length)
            text, sentence = {
                BarKind.QUEUED: (f"queued {time}", f"Waited {time} in {queue}"),
                BarKind.RETRY: (f"retry in {delay_text(length)}", f"Waited {time} for the next attempt"),
                BarKind.DEAD: (f"dead letter, {time}", f"Was a dead letter of {queue} for {time}"),
            }[kind]
            yield TimeBar(kind, self.at(begin), self.at(end), step, "", text, sentence)

    def attempt(self, one: AttemptRow, step: int | None) -> TimeBar:
        """Return the bar of an attempt."""
        begin, end = self.at(one.began_at), self.at(max(one.began_at, one.ended_at))
        why = f": {one.error}" if one.error else ""
        where = one.instance if one.pid is None else f"{one.instance}, pid {one.pid},"
        sentence = f"Attempt {one.attempt} on {where} {_DONE[one.outcome]} after {duration(end - begin)}{why}"
        text = f"Attempt {one.attempt}, {one.instance}"
        return TimeBar(BarKind.ATTEMPT, begin, end, step, one.outcome, text, sentence)

    def open_wait(self, last: AttemptRow) -> Iterator[TimeBar]:
        """Yield the wait after the last attempt if the wait still lasts."""
        step, begin = self.steps.get(id(last)), self.at(last.ended_at)
        if last.outcome == "retried":
            delay = delay_text(last.delay or 0)
            sentence = f"Waits for the next attempt, {delay} after the last attempt"
            yield TimeBar(BarKind.RETRY, begin, None, step, "", f"retry in {delay}", sentence)
        if last.outcome == DEAD_LETTERED:
            yield TimeBar(BarKind.DEAD, begin, None, step, "", "dead letter", f"Is a dead letter of {last.queue}")

    def add_event(self, event: EventRow, copies: Sequence[tuple[str, str]]) -> None:
        """Add the mark of an event, and the copies that have no recorded attempt."""
        at = self.published_at(event)
        for service, queue in copies:
            if (queue, event.id) not in self.deliveries:
                sentence = f"Waits in {queue}, or is being handled: no attempt is recorded yet"
                bar = TimeBar(BarKind.QUEUED, at, None, self.steps.get(id(event)), "", "no attempt yet", sentence)
                self.group(event.id, service, queue).parts.append(bar)
        causes = (one for one in self.groups if one.message_id == event.causation_id)
        group = next((one for one in causes if one.row.service == event.app_id), None)
        group = group or self.group("", event.app_id or "unknown publisher", "")
        count = sum(one.message_id == event.id for one in self.groups)
        to = f" to {count} queue{'s' if count > 1 else ''}" if count else ""
        group.parts.append(TimeMark("published", at, self.steps.get(id(event)), f"{event.type or 'an event'}{to}"))
        self.sources[event.id] = group.row

    def finished(self) -> Swimlane:
        """Return the swimlane, with overlapping groups on different tracks."""
        for row in self.rows.values():
            ends: list[float] = []
            for group in sorted((one for one in self.groups if one.row is row), key=_Group.extent):
                begin, end = group.extent()
                group.track = next((number for number, used in enumerate(ends) if used <= begin), len(ends))
                ends[group.track : group.track + 1] = [end]
                for part in group.parts:
                    if isinstance(part, TimeBar):
                        row.bars.append(replace(part, track=group.track))
                    else:
                        row.marks.append(replace(part, track=group.track))
            row.tracks = max(1, len(ends))
            row.bars.sort(key=lambda one: (one.begin, one.track))
            row.marks.sort(key=lambda one: (one.at, one.track))
        rows = sorted(self.rows.values(), key=lambda one: (one.first, one.queue != "", one.queue, one.service))
        place = {id(row): number for number, row in enumerate(rows)}
        lines = [
            CauseLine(self.published_at(event), place[id(self.sources[event.id])], place[id(group.row)], group.track)
            for event in self.history.events
            for group in self.groups
            if group.message_id == event.id and group.row is not self.sources[event.id]
        ]
        return Swimlane(rows, sorted(lines, key=lambda one: (one.at, one.source, one.target)))
