"""The memory of steps, written by a worker and read by its supervisor."""

from __future__ import annotations

import mmap
import threading
import time
import timeit
from functools import partial

import pytest

from runner.ipc import step_memory
from runner.ipc.shared_memory import SharedMemory, SharedMemoryFile, WorkerCounters
from runner.ipc.step_memory import (
    BOUNDS,
    DEAD_LETTERED,
    DELIVERED,
    HANDLED,
    MAX_EDGES,
    MAX_ID,
    PUBLISHED,
    RETRIED,
    RING,
    MessageStep,
    StepEdge,
    StepMemory,
    StepReader,
    StepTotals,
    step_id,
)
from runner.supervisor.live_steps import MOST_KEPT, LiveSteps


class Pair:
    """Both views of one memory."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, step_memory.SIZE)
        self.writer, self.reader = StepMemory(self.memory, 0), StepReader(self.memory, 0)

    def handle(self, count: int, queue: str = "q", order: str = "order") -> None:
        for number in range(count):
            self.writer.record((HANDLED, queue, "", ""), order, 1, self.reader.last + number)


def test_both_parts_of_the_shared_memory_are_independent() -> None:
    file = SharedMemoryFile("test")
    worker = SharedMemory(mmap.mmap(file.descriptor, 0))
    worker.handled(3)
    worker.steps.record((DELIVERED, "q", "", ""), "a", 2, 1_000, 0.5)
    worker.in_hand(1)
    file.close()
    assert file.read() == WorkerCounters(3, 0, 1)
    assert file.messages() == []
    assert file.steps.totals().counts == {StepEdge(DELIVERED, "q"): 1}
    assert file.steps.steps(0) == ([MessageStep(1_000, StepEdge(DELIVERED, "q"), "a", 2)], 1, 0)


def test_each_step_is_read_once_with_its_edge_order_and_attempt() -> None:
    pair = Pair()
    published = (PUBLISHED, "orders", "order.created.€", "order.created")
    pair.writer.record(published, "47ebd60a", 0, 5)
    pair.writer.record((RETRIED, "q", "5s", ""), "", 2**32 - 1, 6)
    steps, last, lost = pair.reader.steps(0)
    assert (last, lost) == (2, 0)
    assert steps == [
        MessageStep(5, StepEdge(*published), "47ebd60a", 0),
        MessageStep(6, StepEdge(RETRIED, "q", "5s"), "", 2**32 - 1),
    ]
    assert pair.reader.steps(last) == ([], 2, 0)
    pair.handle(1)
    assert [one.edge.kind for one in pair.reader.steps(last)[0]] == [HANDLED]


@pytest.mark.parametrize(("id", "shown"), [("x" * MAX_ID, "x" * MAX_ID), ("ü" * 20, "ü" * 20), ("\ud800", "?")])
def test_an_order_id_that_fits_is_kept(id: str, shown: str) -> None:
    pair = Pair()
    pair.handle(1, order=id)
    assert [one.order_id for one in pair.reader.steps(0)[0]] == [shown]


def test_a_longer_order_id_becomes_its_hash() -> None:
    pair = Pair()
    ids = ["x" * (MAX_ID + 1), "ü" * 21]
    for one in ids:
        pair.handle(1, order=one)
    found = [one.order_id for one in pair.reader.steps(0)[0]]
    assert found == list(map(step_id, ids))
    assert {len(one) for one in found} == {MAX_ID}
    assert len(set(found)) == 2


def test_overwritten_steps_are_counted_as_lost() -> None:
    pair = Pair()
    pair.handle(3 * RING + 7)
    steps, last, lost = pair.reader.steps(RING)
    # The oldest step is dropped, too, because the worker may be overwriting it.
    assert (len(steps), last, lost) == (RING - 1, 3 * RING + 7, RING + 8)
    pair.handle(2)
    assert len(pair.reader.steps(last)[0]) == 2


def test_a_torn_step_is_recognized() -> None:
    pair = Pair()
    pair.handle(5)
    start, size = step_memory._RING_AT, step_memory._STEP.size
    for number, place in ((2, 0), (4, size - 1)):
        pair.memory[start + number * size + place] ^= 1
    steps, last, lost = pair.reader.steps(0)
    assert (len(steps), last, lost) == (3, 5, 2)


def test_a_step_that_a_killed_worker_did_not_complete_is_ignored() -> None:
    pair = Pair()
    pair.handle(2)
    step_memory._STEP.pack_into(pair.memory, step_memory._RING_AT + 3 * step_memory._STEP.size, 3, 9, 1, 0, b"", 3)
    assert len(pair.reader.steps(0)[0]) == 2


def test_steps_that_are_overwritten_during_a_read_are_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair()
    pair.handle(RING)
    read = StepReader._raw

    def interrupted(reader: StepReader, number: int) -> bytes:
        found = read(reader, number)
        if number == 100:
            pair.handle(50)
        return found

    monkeypatch.setattr(StepReader, "_raw", interrupted)
    steps, last, lost = pair.reader.steps(0)
    assert (last, len(steps), lost) == (RING, RING - 51, 51)
    assert [one.time for one in steps] == sorted(one.time for one in steps)


def test_further_keys_and_places_are_combined_so_that_no_step_is_uncounted() -> None:
    pair = Pair()
    for number in range(100):
        pair.writer.record((PUBLISHED, "orders", f"key.{number}", "order.created"), "", 0, 1)
    for number in range(100):
        pair.writer.record((HANDLED, f"queue.{number}", "", ""), "", 1, 1, 0.5)
    pair.writer.record((DEAD_LETTERED, "late", "", ""), "", 1, 1)
    totals = pair.reader.totals()
    assert len(totals.counts) <= MAX_EDGES
    own = [edge for edge in totals.counts if edge.kind == PUBLISHED and edge.key]
    assert totals.counts[StepEdge(PUBLISHED, "orders")] == 100 - len(own)
    assert sum(count for edge, count in totals.counts.items() if edge.kind == HANDLED) == 100
    assert totals.counts[StepEdge(HANDLED, "")] > 80
    assert totals.counts[StepEdge(DEAD_LETTERED, "")] == 1
    assert sum(sum(times[:-1]) for times in totals.handler_times.values()) == 100


def test_names_of_the_longest_length_are_kept_and_longer_names_are_cut() -> None:
    pair = Pair()
    longest = "ä" * 127 + "x"
    pair.writer.record((PUBLISHED, longest, longest, longest), "", 0, 1)
    pair.writer.record((PUBLISHED, "y" * 300, "", ""), "", 0, 1)
    assert list(pair.reader.totals().counts) == [StepEdge(PUBLISHED, longest, longest, longest), StepEdge(0, "y" * 255)]


def test_times_are_counted_in_the_bucket_of_the_next_higher_bound() -> None:
    pair = Pair()
    for seconds in (-1.0, 0.0, BOUNDS[0], 0.0011, 60.0, 61.0):
        pair.writer.record((DELIVERED, "q", "", ""), "", 1, 1, seconds)
    pair.writer.record((HANDLED, "q", "", ""), "", 1, 1, 0.5)
    pair.writer.record((HANDLED, "q", "", ""), "", 1, 1)
    totals = pair.reader.totals()
    *buckets, total = totals.queue_times["q"]
    assert buckets == [3, 1, *[0] * (len(BOUNDS) - 3), 1, 1]
    assert total == pytest.approx(121.0021)
    *buckets, total = totals.handler_times["q"]
    assert (sum(buckets), buckets[BOUNDS.index(0.5)], total) == (1, 1, 0.5)


def test_several_threads_lose_no_count_and_every_step_has_its_number() -> None:
    pair, each = Pair(), 2_000
    threads = [threading.Thread(target=pair.handle, args=(each, f"q{number}")) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pair.reader.totals().counts == {StepEdge(HANDLED, f"q{number}"): each for number in range(4)}
    steps, last, _ = pair.reader.steps(4 * each - 100)
    assert (len(steps), last) == (100, 4 * each)


def test_totals_continue_when_a_process_ends() -> None:
    live, seen = LiveSteps(), []
    for _ in range(3):
        pair = Pair()
        for number in range(1, 5):
            pair.writer.record((HANDLED, "q", "", ""), "", 1, 1, 0.1)
            totals = live.totals("payment.1", [pair.reader])
            seen.append(totals.counts[StepEdge(HANDLED, "q")])
            assert sum(totals.handler_times["q"][:-1]) == seen[-1]
            assert number <= seen[-1]
        live.end("payment.1", pair.reader)
    assert seen == list(range(1, 13))
    assert live.totals("payment.1", []).counts == {StepEdge(HANDLED, "q"): 12}
    assert live.totals("payment.2", []) == StepTotals()
    live.forget("pay")
    assert live.totals("payment.1", []) != StepTotals()
    live.forget("payment")
    assert live.totals("payment.1", []) == StepTotals()


def test_the_kept_edges_of_ended_processes_are_limited_and_no_step_is_uncounted() -> None:
    live = LiveSteps()
    for process in range(20):
        pair = Pair()
        for number in range(40):
            pair.writer.record((PUBLISHED, "orders", f"{process}.{number}", "t"), "", 0, 1)
        live.end("api.1", pair.reader)
    counts = live.totals("api.1", []).counts
    assert len(counts) <= MOST_KEPT + 2
    assert sum(counts.values()) == 800


def test_steps_are_collected_only_while_they_are_watched_and_those_of_an_ended_process_are_not_lost() -> None:
    live, one, other = LiveSteps(), Pair(), Pair()
    readers = [("a.1", one.reader), ("b.1", other.reader)]
    one.handle(3)
    assert live.take(readers) == ([], 0)
    live.begin(readers)
    one.writer.record((HANDLED, "q", "", ""), "second", 1, 20)
    other.writer.record((HANDLED, "q", "", ""), "first", 1, 10)
    steps, lost = live.take(readers)
    assert [(slot, step.order_id) for slot, step in steps] == [("b.1", "first"), ("a.1", "second")]
    assert lost == 0
    one.handle(1, order="last")
    live.end("a.1", one.reader)
    new = Pair()
    new.handle(1, order="new")
    steps, lost = live.take([("a.1", new.reader), ("b.1", other.reader)])
    assert {step.order_id for _, step in steps} == {"last", "new"}
    new.handle(RING + 10)
    steps, lost = live.take([("a.1", new.reader)])
    assert (len(steps), lost) == (RING - 1, 11)
    live.stop()
    assert live.take([("a.1", new.reader)]) == ([], 0)


def test_recording_a_step_takes_a_few_microseconds_at_most() -> None:
    pair = Pair()
    edge = (DELIVERED, "payment.order.created", "", "")
    record = partial(pair.writer.record, edge, "47ebd60a-1111-4222-8333-123456789012", 1, 1, 0.01)
    # About 1 µs of processor time. The limit detects a system call or a search.
    assert min(timeit.repeat(record, number=1000, repeat=20, timer=time.process_time)) / 1000 < 10e-6


def test_the_unacked_messages_of_each_queue_are_read_although_no_attempt_has_begun() -> None:
    pair = Pair()
    for count in (1, 2, 1):
        pair.writer.unacked("q", count)
    pair.writer.unacked("other", 3)
    pair.writer.record((DELIVERED, "q", "", ""), "order", 1, 1_000)
    assert pair.reader.unacked() == {"q": 1, "other": 3}
    assert pair.reader.totals().counts == {StepEdge(DELIVERED, "q"): 1}


def test_a_queue_without_an_edge_of_its_own_has_no_number_of_unacked_messages() -> None:
    pair = Pair()
    for number in range(2 * MAX_EDGES):
        pair.writer.unacked(f"q{number}", number)
    found = pair.reader.unacked()
    assert 40 < len(found) < MAX_EDGES
    assert all(name == f"q{count}" for name, count in found.items())
