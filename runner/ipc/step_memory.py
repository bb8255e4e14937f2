"""The part of a worker's shared memory that counts, times and lists the steps of its messages.

A step is one event in the way of a message, such as its delivery or its acknowledgement. Steps with the same kind,
place and key belong to one edge of the topology's diagram. The memory contains:

- up to ``MAX_EDGES`` edges, which the worker describes when an edge first occurs, and the number of steps of each edge
- a histogram of the waiting times and of the handler times of each queue
- a ring of ``RING`` steps, which the worker fills only while the supervisor reads it

The worker writes without system calls, and the supervisor reads without disturbing the worker. The supervisor writes
only the number of the last step that fits into the ring. The worker therefore never overwrites an unread step.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple

#: The kinds of steps. ``published`` means that the broker has confirmed an event. ``delivered`` means that an attempt
#: begins. The other kinds are the outcomes of an attempt.
KINDS = ("published", "delivered", "handled", "retried", "dead_lettered", "rejected")
PUBLISHED, DELIVERED, HANDLED, RETRIED, DEAD_LETTERED, REJECTED = range(len(KINDS))
#: The upper bounds of the buckets of each histogram, in seconds. One more bucket counts all longer times.
BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
#: The maximum number of edges. ``_OWN_EDGES`` edges have a key of their own, and ``_SHARED_EDGES`` edges combine all
#: further keys of one place. The remaining edges combine all further places of one kind.
MAX_EDGES, _OWN_EDGES, _SHARED_EDGES = 64, 48, 10
#: The number of steps in the ring, which is the maximum number between two reads.
RING = 256
#: The maximum length of an order id in the ring, in bytes. ``step_id`` replaces longer ids.
MAX_ID = 40

#: The maximum length of an AMQP short string, such as a queue name or a routing key, in bytes.
_SHORT = 255
#: The kind of an edge, and the lengths of its place, key and event type in bytes.
_LENGTHS = struct.Struct("=BBBB")
_EDGE = _LENGTHS.size + 3 * _SHORT
#: A step: its number, time in nanoseconds, attempt, edge and order id, and again the low bits of its number.
_STEP = struct.Struct(f"=QQIB{MAX_ID + 1}pH")
_LOW = 2**16 - 1
#: The numbers of one histogram: its buckets, and the sum of all times in seconds as a floating-point number.
_BUCKETS = len(BOUNDS) + 1
_TIMES = _BUCKETS + 1
#: The size of the first page. The supervisor writes its first number: the number of the last step that fits into the
#: ring, or 0 if the supervisor does not read the ring.
_LIMIT_SIZE = mmap.PAGESIZE
#: The positions of the worker's numbers, in units of 8 bytes. The first three are the number of described edges, the
#: number of steps in the ring so far, and the number of steps for which the ring had no space. Then follow the count of
#: each edge, and two histograms for each edge, which edges of kind ``delivered`` use. The last numbers are the unacked
#: messages of each queue, which edges of kind ``delivered`` use, too.
_EDGES_AT, _STEPS_AT, _SKIPPED_AT, _COUNTS_AT = 0, 1, 2, 8
_TIMES_AT = _COUNTS_AT + MAX_EDGES
_UNACKED_AT = _TIMES_AT + MAX_EDGES * 2 * _TIMES
_NUMBERS = _UNACKED_AT + MAX_EDGES
#: The positions of the numbers, of the descriptions and of the ring, in bytes.
_NUMBERS_AT = _LIMIT_SIZE
_TEXTS_AT = _NUMBERS_AT + 8 * _NUMBERS
_RING_AT = (_TEXTS_AT + MAX_EDGES * _EDGE + 63) // 64 * 64
#: The size of this part of the shared memory, in bytes.
SIZE = _RING_AT + RING * _STEP.size


class StepEdge(NamedTuple):
    """The common fields of the steps of one edge."""

    kind: int
    #: The exchange of a published event, or the queue of any other step.
    other: str
    #: The routing key of a published event, or the delay of a retry, such as ``5s``. Empty for all other kinds.
    key: str = ""
    #: The type of a published event. Empty for all other kinds.
    type: str = ""


class MessageStep(NamedTuple):
    """One step in the ring."""

    #: The time of the step, in nanoseconds since the epoch. For a published event, the time at which it was sent.
    time: int
    edge: StepEdge
    #: The order id as returned by ``step_id``. Empty for a message without an order.
    order_id: str
    #: The number of the attempt. 0 for an event that no message has caused.
    attempt: int


def step_id(order_id: str) -> str:
    """Return an order id as it appears in steps: a hash of 40 hexadecimal digits if the id is longer than 40 bytes."""
    raw = order_id.encode("utf-8", "replace")
    return order_id if len(raw) <= MAX_ID else hashlib.sha256(raw).hexdigest()[:MAX_ID]


class StepMemory:
    """A worker's view of the memory. Any thread may call the methods."""

    def __init__(self, memory: mmap.mmap, start: int) -> None:
        """``start`` is the position of this part in the shared memory, in bytes."""
        self._memory, self._start = memory, start
        view = memoryview(memory)
        numbers = view[start + _NUMBERS_AT : start + _TEXTS_AT]
        self._limit = view[start : start + 8].cast("Q")
        self._numbers, self._sums = numbers.cast("Q"), numbers.cast("d")
        #: The number of steps of each edge. A caller counts a step with ``counts[number] += 1``. No other thread can
        #: interrupt this statement, because CPython switches threads only at calls and jumps.
        self.counts = self._numbers[_COUNTS_AT : _COUNTS_AT + MAX_EDGES]
        self._edges: dict[tuple[int, str, str, str], int] = {}
        self._lock = threading.Lock()

    @property
    def is_watched(self) -> bool:
        """True if the supervisor reads the ring."""
        return self._limit[0] > 0

    def number(self, edge: tuple[int, str, str, str]) -> int:
        """Return the number of an edge. ``edge`` contains the fields of a ``StepEdge``.

        If there are too many edges, the number belongs to an edge that combines all keys of a place, or all places of a
        kind.
        """
        number = self._edges.get(edge)
        if number is None:
            with self._lock:
                number = self._describe(edge)
        return number

    def list_step(self, number: int, order_id: str, attempt: int, time: int) -> None:
        """Add a step of an edge to the ring, or count it as skipped if the ring is full.

        ``time`` is in nanoseconds since the epoch. ``attempt`` is below 2**32.
        """
        raw = order_id.encode("utf-8", "replace")
        if len(raw) > MAX_ID:
            raw = step_id(order_id).encode()
        with self._lock:
            step, numbers = self._numbers[_STEPS_AT] + 1, self._numbers
            if step > self._limit[0]:
                numbers[_SKIPPED_AT] += 1
                return
            at = self._start + _RING_AT + step % RING * _STEP.size
            _STEP.pack_into(self._memory, at, step, time, attempt, number, raw, step & _LOW)
            # Written last, so that all steps up to this number are complete.
            numbers[_STEPS_AT] = step

    def unacked(self, queue: str, count: int) -> None:
        """Write the current number of unacked messages of a queue. Only one thread at a time calls this method."""
        self._numbers[_UNACKED_AT + self.number((DELIVERED, queue, "", ""))] = count

    def add_time(self, queue: str, seconds: float, *, is_handler: bool) -> None:
        """Add a handler's time to the histogram of its queue, or the time for which a message waited in the queue."""
        place = _TIMES_AT + (2 * self.number((DELIVERED, queue, "", "")) + is_handler) * _TIMES
        # The clock of the sender may be ahead of this machine's clock.
        seconds = max(0.0, seconds)
        self._numbers[place + bisect_left(BOUNDS, seconds)] += 1
        self._sums[place + _BUCKETS] += seconds

    def _describe(self, edge: tuple[int, str, str, str]) -> int:
        """Return the number of a new edge, or of the edge that combines further edges of the same place or kind."""
        kind, other, _, _ = edge
        for one, limit in (
            (edge, _OWN_EDGES),
            ((kind, other, "", ""), _OWN_EDGES + _SHARED_EDGES),
            ((kind, "", "", ""), MAX_EDGES),
        ):
            number = self._edges.get(one)
            if number is not None:
                return number
            if len(self._edges) < limit:
                return self._add_edge(one)
        raise AssertionError("each kind has an edge of its own for further edges")

    def _add_edge(self, edge: tuple[int, str, str, str]) -> int:
        number = len(self._edges)
        texts = [text.encode("utf-8", "replace")[:_SHORT] for text in edge[1:]]
        at = self._start + _TEXTS_AT + number * _EDGE
        text = b"".join(texts)
        self._memory[at + _LENGTHS.size : at + _LENGTHS.size + len(text)] = text
        _LENGTHS.pack_into(self._memory, at, edge[0], *map(len, texts))
        self._edges[edge] = number
        # Written last, so that all edges up to this number are described.
        self._numbers[_EDGES_AT] = number + 1
        return number


@dataclass
class StepTotals:
    """The number of steps of each edge, and the histograms of each queue."""

    counts: dict[StepEdge, int] = field(default_factory=dict)
    #: For each queue: the buckets of the waiting times of first attempts, and the sum in seconds.
    queue_times: dict[str, list[float]] = field(default_factory=dict)
    #: For each queue: the buckets of the handler times, and the sum in seconds.
    handler_times: dict[str, list[float]] = field(default_factory=dict)

    def add(self, other: StepTotals, limit: int) -> None:
        """Add other totals. Further edges above ``limit`` are added to the edge that combines the keys of a place."""
        for edge, count in other.counts.items():
            for one in (edge, StepEdge(edge.kind, edge.other), StepEdge(edge.kind, "")):
                if one in self.counts or len(self.counts) < limit or not one.other:
                    self.counts[one] = self.counts.get(one, 0) + count
                    break
        for own, others in ((self.queue_times, other.queue_times), (self.handler_times, other.handler_times)):
            for queue, times in others.items():
                own[queue] = [sum(pair) for pair in zip(own.get(queue, [0] * _TIMES), times, strict=True)]


class StepReader:
    """The supervisor's view of a worker's memory."""

    def __init__(self, memory: mmap.mmap, start: int, limit: mmap.mmap) -> None:
        """``start`` is the position of this part in the shared memory, in bytes.

        ``limit`` is the first page of this part, and is the only part of the memory that this class writes.
        """
        self._memory, self._start = memory, start
        self._limit = memoryview(limit)[:8].cast("Q")
        numbers = memoryview(memory)[start + _NUMBERS_AT : start + _TEXTS_AT]
        self._numbers, self._sums = numbers.cast("Q"), numbers.cast("d")
        self._edges: list[StepEdge] = []
        #: The numbers of the last steps that were read from the ring and that were skipped.
        self._read = self._skipped = 0

    def totals(self) -> StepTotals:
        """Return the totals since the start of the process."""
        edges, found = self._described(), StepTotals()
        numbers = self._numbers
        for number, edge in enumerate(edges):
            if count := numbers[_COUNTS_AT + number]:
                found.counts[edge] = count
            if edge.kind == DELIVERED:
                at = _TIMES_AT + 2 * number * _TIMES
                for times in (found.queue_times, found.handler_times):
                    if any(buckets := numbers[at : at + _BUCKETS].tolist()):
                        times[edge.other] = [*buckets, self._sums[at + _BUCKETS]]
                    at += _TIMES
        return found

    def unacked(self) -> dict[str, int]:
        """Return the number of unacked messages of each queue from which the worker has received messages."""
        return {
            edge.other: self._numbers[_UNACKED_AT + number]
            for number, edge in enumerate(self._described())
            if edge.kind == DELIVERED and edge.other
        }

    def watch(self) -> None:
        """Let the worker add its steps to the ring, until ``stop`` is called."""
        self._read, self._skipped = self._numbers[_STEPS_AT], self._numbers[_SKIPPED_AT]
        self._limit[0] = (self._read + RING) % 2**64

    def stop(self) -> None:
        """Let the worker add no more steps to the ring."""
        self._limit[0] = 0

    def steps(self) -> tuple[list[MessageStep], int]:
        """Return the steps since the last call or since ``watch``, and the number of steps that are missing."""
        first, last, skipped = self._read + 1, self._numbers[_STEPS_AT], self._numbers[_SKIPPED_AT]
        edges, found = self._described(), []
        for number in range(max(first, last - RING + 1), last + 1):
            at = self._start + _RING_AT + number % RING * _STEP.size
            begin, time, attempt, edge, order_id, end = _STEP.unpack(self._memory[at : at + _STEP.size])
            # A step with other numbers is torn.
            if begin == number and end == number & _LOW and edge < len(edges):
                found.append(MessageStep(time, edges[edge], order_id.decode("utf-8", "replace"), attempt))
        lost = last - first + 1 - len(found) + skipped - self._skipped
        self._read, self._skipped = last, skipped
        self._limit[0] = (last + RING) % 2**64  # a process can write any number
        return found, max(0, lost)

    def _described(self) -> list[StepEdge]:
        for number in range(len(self._edges), min(self._numbers[_EDGES_AT], MAX_EDGES)):
            at = self._start + _TEXTS_AT + number * _EDGE
            kind, *lengths = _LENGTHS.unpack_from(self._memory, at)
            texts, at = [], at + _LENGTHS.size
            for length in lengths:
                texts.append(self._memory[at : at + length].decode("utf-8", "replace"))
                at += length
            self._edges.append(StepEdge(min(kind, len(KINDS) - 1), *texts))
        return self._edges
