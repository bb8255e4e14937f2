"""The blame of a message is also read when its turn has come, not only before it waits."""

from __future__ import annotations

import mmap
import signal
import threading

import pytest

from runner.ipc.crashing_messages import CrashingMessages
from runner.ipc.shared_memory import CurrentMessage, SharedMemory, SharedMemoryFile
from runner.messages import Message
from runner.supervisor.crash_blame import CrashTracker, Death
from runner.supervisor.slot_lifecycle import Slot, SlotState
from runner.worker.crash_protection import Crashed, CrashProtection
from tests.rabbit import wait_until

A, B = Message(b"", "q", id="a"), Message(b"", "q", id="b")
DEATH = Death(Slot("jobs.1", state=SlotState.RUNNING), -signal.SIGSEGV, False, False)


def in_hand(message: Message) -> CurrentMessage:
    return CurrentMessage(message.queue, message.id)


class Bench:
    """Two handler threads of one worker, and its supervisor."""

    def __init__(self) -> None:
        self.tracker = CrashTracker("jobs", lambda *_: None)
        self.file = SharedMemoryFile("test")
        crashing_messages = CrashingMessages(mmap.mmap(self.tracker.file.descriptor, 0, prot=mmap.PROT_READ))
        self.protection = CrashProtection(
            SharedMemory(mmap.mmap(self.file.descriptor, 0)), crashing_messages, max_crashes=2, concurrency=3
        )
        self.is_over = threading.Event()
        self.threads: list[threading.Thread] = []
        self.parked: list[str] = []

    def handle(self, hand: int, message: Message, until: threading.Event) -> None:
        def run() -> None:
            try:
                with self.protection.at(hand, message):
                    until.wait(30)
            except Crashed:
                self.parked.append(message.id)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.threads.append(thread)

    def close(self) -> None:
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()
        self.file.close()
        self.tracker.file.close()


@pytest.fixture
def bench():
    one = Bench()
    yield one
    one.close()


def test_a_message_that_crashes_another_worker_while_it_waits_to_be_alone_is_dead_lettered(bench: Bench) -> None:
    others_done = threading.Event()
    bench.handle(0, B, others_done)
    wait_until(lambda: bench.file.messages() == [in_hand(B)], 10)
    bench.tracker.blame(DEATH, [in_hand(A)])
    bench.handle(1, A, bench.is_over)
    wait_until(lambda: bench.protection._turn is not None and bench.protection._turn._wanted == 1, 10)
    bench.tracker.blame(DEATH, [in_hand(A)])
    others_done.set()
    wait_until(lambda: bench.parked == ["a"], 10)


def test_a_message_that_crashes_another_worker_while_it_waits_is_handled_alone(bench: Bench) -> None:
    crashing_done = threading.Event()
    turn = bench.protection._turn
    assert turn is not None
    bench.tracker.blame(DEATH, [in_hand(B)])
    bench.handle(0, B, crashing_done)
    wait_until(lambda: bench.file.messages() == [in_hand(B)], 10)
    bench.handle(1, A, bench.is_over)
    wait_until(lambda: len(turn._changed._waiters) == 1, 10, "it waits")  # type: ignore[attr-defined]
    bench.tracker.blame(DEATH, [in_hand(A)])
    crashing_done.set()
    wait_until(lambda: bench.file.messages() == [in_hand(A)], 10)
    assert turn._is_alone
    bench.is_over.set()
