"""The memory of steps, written by a worker and read by its supervisor."""

from __future__ import annotations

import itertools
import mmap
import sys
import threading
from collections import Counter

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
    """Both views of one memory. The supervisor reads the ring."""

    def __init__(self, *, is_watched: bool = True) -> None:
        self.memory = mmap.mmap(-1, step_memory.SIZE)
        self.writer, self.reader = StepMemory(self.memory, 0), StepReader(self.memory, 0, self.memory)
        self._times = itertools.count(1)
        if is_watched:
            self.reader.watch()

    def record(self, edge: tuple[int, str, str, str], order: str = "", attempt: int = 1) -> None:
        number = self.writer.number(edge)
        self.writer.counts[number] += 1
        if self.writer.is_watched:
            self.writer.list_step(number, order, attempt, next(self._times))

    def handle(self, count: int, order: str = "order") -> None:
        for _ in range(count):
            self.record((HANDLED, "q", "", ""), order)


def test_both_parts_of_the_shared_memory_are_independent() -> None:
    file = SharedMemoryFile("test")
    worker = SharedMemory(mmap.mmap(file.descriptor, 0))
    file.close()
    file.steps.watch()
    worker.handled(3)
    number = worker.steps.number((DELIVERED, "q", "", ""))
    worker.steps.counts[number] += 1
    worker.steps.list_step(number, "a", 2, 1_000)
    worker.in_hand(1)
    assert file.read() == WorkerCounters(3, 0, 1)
    assert file.messages() == []
    assert file.steps.totals().counts == {StepEdge(DELIVERED, "q"): 1}
    assert file.steps.steps() == ([MessageStep(1_000, StepEdge(DELIVERED, "q"), "a", 2)], 0)


def test_each_step_is_read_once_with_its_edge_order_and_attempt() -> None:
    pair = Pair()
    published = (PUBLISHED, "orders", "order.created.€", "order.created")
    pair.record(published, "47ebd60a", 0)
    pair.record((RETRIED, "q", "5s", ""), "", 2**32 - 1)
    assert pair.reader.steps() == (
        [
            MessageStep(1, StepEdge(*published), "47ebd60a", 0),
            MessageStep(2, StepEdge(RETRIED, "q", "5s"), "", 2**32 - 1),
        ],
        0,
    )
    assert pair.reader.steps() == ([], 0)
    pair.handle(1)
    assert [one.edge.kind for one in pair.reader.steps()[0]] == [HANDLED]


@pytest.mark.parametrize(("id", "shown"), [("x" * MAX_ID, "x" * MAX_ID), ("ü" * 20, "ü" * 20), ("\ud800", "?")])
def test_an_order_id_that_fits_is_kept(id: str, shown: str) -> None:
    pair = Pair()
    pair.handle(1, order=id)
    assert [one.order_id for one in pair.reader.steps()[0]] == [shown]


def test_a_longer_order_id_becomes_its_hash() -> None:
    pair = Pair()
    ids = ["x" * (MAX_ID + 1), "ü" * 21]
    for one in ids:
        pair.handle(1, order=one)
    found = [one.order_id for one in pair.reader.steps()[0]]
    assert found == list(map(step_id, ids))
    assert {len(one) for one in found} == {MAX_ID}
    assert len(set(found)) == 2


def test_unread_steps_are_never_overwritten_and_further_steps_are_counted_as_lost() -> None:
    pair = Pair()
    for _ in range(3):
        pair.handle(RING + 7)
        steps, lost = pair.reader.steps()
        assert (len(steps), lost) == (RING, 7)
        assert steps[-1].time - steps[0].time == RING - 1
    pair.handle(2)
    assert (len(pair.reader.steps()[0]), pair.reader.steps()[1]) == (2, 0)
    assert pair.reader.totals().counts == {StepEdge(HANDLED, "q"): 3 * (RING + 7) + 2}


def test_the_ring_is_filled_only_while_it_is_watched_and_the_counts_are_always_exact() -> None:
    pair = Pair(is_watched=False)
    pair.handle(5)
    pair.reader.watch()
    assert pair.reader.steps() == ([], 0)
    pair.handle(1)
    assert len(pair.reader.steps()[0]) == 1
    pair.reader.stop()
    pair.handle(RING + 5)
    assert not pair.writer.is_watched
    pair.reader.watch()
    assert pair.reader.steps() == ([], 0)
    assert pair.reader.totals().counts == {StepEdge(HANDLED, "q"): RING + 11}


def test_a_torn_step_is_recognized() -> None:
    pair = Pair()
    pair.handle(5)
    start, size = step_memory._RING_AT, step_memory._STEP.size
    for number, place in ((2, 0), (4, size - 1)):
        pair.memory[start + number * size + place] ^= 1
    steps, lost = pair.reader.steps()
    assert (len(steps), lost) == (3, 2)


def test_a_step_that_a_killed_worker_did_not_complete_is_ignored() -> None:
    pair = Pair()
    pair.handle(2)
    step_memory._STEP.pack_into(pair.memory, step_memory._RING_AT + 3 * step_memory._STEP.size, 3, 9, 1, 0, b"", 3)
    assert len(pair.reader.steps()[0]) == 2


def test_a_supervisor_survives_any_content_of_the_memory() -> None:
    for byte in (b"\xff", b"\x7f", b"\x01"):
        pair = Pair()
        pair.memory[mmap.PAGESIZE :] = byte * (step_memory.SIZE - mmap.PAGESIZE)
        steps, lost = pair.reader.steps()
        assert len(steps) <= RING
        assert lost >= 0
        assert len(pair.reader.totals().counts) <= MAX_EDGES


def test_further_keys_and_places_are_combined_so_that_no_step_is_uncounted() -> None:
    pair = Pair()
    for number in range(100):
        pair.record((PUBLISHED, "orders", f"key.{number}", "order.created"), "", 0)
    for number in range(100):
        pair.record((HANDLED, f"queue.{number}", "", ""), "", 1)
        pair.writer.add_time(f"queue.{number}", 0.5, is_handler=True)
    pair.record((DEAD_LETTERED, "late", "", ""), "", 1)
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
    pair.record((PUBLISHED, longest, longest, longest), "", 0)
    pair.record((PUBLISHED, "y" * 300, "", ""), "", 0)
    assert list(pair.reader.totals().counts) == [StepEdge(PUBLISHED, longest, longest, longest), StepEdge(0, "y" * 255)]


def test_times_are_counted_in_the_bucket_of_the_next_higher_bound() -> None:
    pair = Pair()
    for seconds in (-1.0, 0.0, BOUNDS[0], 0.0011, 60.0, 61.0):
        pair.writer.add_time("q", seconds, is_handler=False)
    pair.writer.add_time("q", 0.5, is_handler=True)
    totals = pair.reader.totals()
    *buckets, total = totals.queue_times["q"]
    assert buckets == [3, 1, *[0] * (len(BOUNDS) - 3), 1, 1]
    assert total == pytest.approx(121.0021)
    *buckets, total = totals.handler_times["q"]
    assert (sum(buckets), buckets[BOUNDS.index(0.5)], total) == (1, 1, 0.5)


def test_several_threads_lose_no_count_although_they_are_switched_as_often_as_possible() -> None:
    pair, each = Pair(), 20_000

    def work() -> None:
        number = pair.writer.number((HANDLED, "q", "", ""))
        counts = pair.writer.counts
        for _ in range(each):
            counts[number] += 1
            pair.writer.add_time("q", 0.5, is_handler=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    totals = pair.reader.totals()
    assert totals.counts == {StepEdge(HANDLED, "q"): 4 * each}
    *buckets, total = totals.handler_times["q"]
    assert (sum(buckets), total) == (4 * each, 2.0 * each)


def test_steps_of_several_threads_have_numbers_without_gaps() -> None:
    pair = Pair()
    threads = [threading.Thread(target=pair.handle, args=(RING // 4, f"order {number}")) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps, lost = pair.reader.steps()
    assert (len(steps), lost) == (RING, 0)
    assert Counter(one.order_id for one in steps) == {f"order {number}": RING // 4 for number in range(4)}


def test_totals_continue_when_a_process_ends() -> None:
    live, seen = LiveSteps(), []
    for _ in range(3):
        pair = Pair()
        for number in range(1, 5):
            pair.handle(1)
            pair.writer.add_time("q", 0.1, is_handler=True)
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
            pair.record((PUBLISHED, "orders", f"{process}.{number}", "t"))
        live.end("api.1", pair.reader)
    counts = live.totals("api.1", []).counts
    assert len(counts) <= MOST_KEPT + 2
    assert sum(counts.values()) == 800


def test_steps_are_collected_only_while_they_are_watched_and_those_of_an_ended_process_are_not_lost() -> None:
    live, one, other = LiveSteps(), Pair(is_watched=False), Pair(is_watched=False)
    readers = [("a.1", one.reader), ("b.1", other.reader)]
    one.handle(3)
    live.begin([one.reader, other.reader])
    one.writer.list_step(0, "second", 1, 20)
    other.writer.list_step(other.writer.number((HANDLED, "q", "", "")), "first", 1, 10)
    steps, lost = live.take(readers)
    assert [(slot, step.order_id) for slot, step in steps] == [("b.1", "first"), ("a.1", "second")]
    assert lost == 0
    one.handle(1, order="last")
    live.end("a.1", one.reader)
    new = Pair(is_watched=False)
    live.start(new.reader)
    new.handle(1, order="new")
    steps, lost = live.take([("a.1", new.reader), ("b.1", other.reader)])
    assert {step.order_id for _, step in steps} == {"last", "new"}
    new.handle(RING + 10)
    steps, lost = live.take([("a.1", new.reader)])
    assert (len(steps), lost) == (RING, 10)
    live.stop([new.reader, other.reader])
    assert not new.writer.is_watched
    late = Pair(is_watched=False)
    live.start(late.reader)
    assert not late.writer.is_watched


def test_the_unacked_messages_of_each_queue_are_read_although_no_attempt_has_begun() -> None:
    pair = Pair()
    for count in (1, 2, 1):
        pair.writer.unacked("q", count)
    pair.writer.unacked("other", 3)
    pair.record((DELIVERED, "q", "", ""))
    assert pair.reader.unacked() == {"q": 1, "other": 3}
    assert pair.reader.totals().counts == {StepEdge(DELIVERED, "q"): 1}


def test_a_queue_without_an_edge_of_its_own_has_no_number_of_unacked_messages() -> None:
    pair = Pair()
    for number in range(2 * MAX_EDGES):
        pair.writer.unacked(f"q{number}", number)
    found = pair.reader.unacked()
    assert 40 < len(found) < MAX_EDGES
    assert all(name == f"q{count}" for name, count in found.items())
