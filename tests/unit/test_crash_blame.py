"""The blame of messages for a worker's death, and how it reaches the workers."""

from __future__ import annotations

import json
import mmap
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.ipc import crashing_messages
from runner.ipc.crashing_messages import MOST, CrashingMessages
from runner.ipc.shared_memory import MAX_HANDLERS, VARIABLE, CurrentMessage, SharedMemory, SharedMemoryFile
from runner.messages import Message
from runner.supervisor.crash_blame import CrashBlame, CrashTracker, Death
from runner.supervisor.slot_lifecycle import Slot, SlotState
from runner.worker.crash_protection import Crashed, CrashProtection, Turn

A, B = CurrentMessage("q", "a"), CurrentMessage("q", "b")


def death(code: int, why: str = "", **about: Any) -> Death:
    slot = Slot("jobs.1", state=about.get("state", SlotState.RUNNING), why=why)
    return Death(slot, code, about.get("over_memory", False), about.get("oom", False), about.get("leaving", False))


def crashes(blame: CrashBlame) -> dict[str, int]:
    return {one.id: one.crashes for one in blame.messages}


def test_a_message_that_was_handled_alone_is_blamed_and_others_are_only_isolated() -> None:
    blame = CrashBlame().after([A, B], -signal.SIGSEGV, "killed by SIGSEGV")
    assert not blame.is_known
    assert [(one.deaths, one.needs_isolation) for one in blame.messages] == [(0, True), (0, True)]
    blame = blame.after([B, B], 0, "exit 0")
    assert blame.is_known
    assert crashes(blame) == {"a": 0, "b": 1}, "two deliveries of one message count as one message"
    assert [(one.reason, one.signal, one.times) for one in blame.messages] == [
        ("killed by SIGSEGV", "SIGSEGV", "once"),
        ("exit 0", "", "twice"),
    ]


def test_a_death_is_known_only_if_all_unacked_messages_were_blamed_before() -> None:
    blame = CrashBlame().after([A], 1, "exit 1").after([A, B], 1, "exit 1")
    assert not blame.is_known


def test_of_the_deaths_from_outside_only_every_fourth_counts() -> None:
    blame = CrashBlame()
    for kills in range(1, 13):
        blame = blame.after([A], -signal.SIGKILL, "killed by SIGKILL", is_outside=True)
        found = blame.find(A)
        assert found is not None
        assert (found.deaths, found.crashes, found.kills) == (kills // 4, 0, kills)
        assert found.times == {1: "once", 2: "twice"}.get(kills, f"{kills} times")


@pytest.mark.parametrize(
    ("one", "crashes", "kills"),
    [
        (death(-signal.SIGSEGV), 1, 0),
        (death(0), 1, 0),
        (death(1), 1, 0),
        (death(-signal.SIGKILL), 0, 1),
        (death(-signal.SIGTERM), 0, 1),
        (death(-signal.SIGKILL, "sent no watchdog ping for 30 s"), 1, 0),
        (death(-signal.SIGKILL, oom=True), 1, 0),
        (death(-signal.SIGKILL, "took 300 MiB", over_memory=True, state=SlotState.STOPPING), 1, 0),
        (death(-signal.SIGKILL, "did not stop within 6 s", state=SlotState.STOPPING), 0, 0),
        (death(0, state=SlotState.STOPPING), 0, 0),
        (death(75), 1, 0),
        (death(75, leaving=True), 0, 0),
        (death(1, leaving=True), 0, 0),
        (death(143), 0, 1),
        (death(-signal.SIGABRT, "a handler hangs", leaving=True), 1, 0),
    ],
)
def test_an_unexpected_exit_counts_and_a_kill_from_outside_counts_little(one: Death, crashes: int, kills: int) -> None:
    said: list[str] = []
    tracker = CrashTracker("jobs", lambda text, _: said.append(text))
    tracker.blame(one, [])
    assert said == [], "a worker without a message blames none"
    assert tracker.blame(one, [A]) is False
    os.lseek(tracker.file.descriptor, 16, os.SEEK_SET)
    text = os.read(tracker.file.descriptor, 1000).rstrip(b"\0")
    found = json.loads(text) if text else []
    assert [(held["crashes"], held["kills"]) for held in found] == ([(crashes, kills)] if crashes + kills else [])
    assert len(said) == crashes
    tracker.file.close()


def test_a_replayed_message_is_handled_like_a_new_one() -> None:
    blame = CrashBlame().after([A], 1, "exit 1").after([replace(A, replays=1)], 1, "exit 1")
    assert not blame.is_known
    assert [(one.message.replays, one.crashes) for one in blame.messages] == [(0, 1), (1, 1)]


def test_the_message_with_the_oldest_death_is_forgotten_first() -> None:
    blame = CrashBlame()
    for number in range(MOST):
        blame = blame.after([CurrentMessage("q", str(number))], 1, "exit 1")
    blame = blame.after([CurrentMessage("q", "0")], 1, "exit 1").after([A], 1, "exit 1")
    assert len(blame.messages) == MOST
    assert crashes(blame)["0"] == 2
    assert blame.find(CurrentMessage("q", "1")) is None


@given(st.lists(st.tuples(st.text(max_size=255), st.text(max_size=255)), max_size=5))
def test_messages_in_the_handlers_are_read_as_they_were_written(messages: list[tuple[str, str]]) -> None:
    file = SharedMemoryFile("test")
    record = SharedMemory(mmap.mmap(file.descriptor, 0))
    cut = []
    for hand, (queue, name) in enumerate(messages):
        record.take(hand, CurrentMessage(queue, name, hand))
        if queue:
            cut.append((queue.encode("utf-8", "replace")[:255], name.encode("utf-8", "replace")[:255]))
    found = [(one.queue, one.id) for one in file.messages()]
    assert found == [(queue.decode("utf-8", "replace"), name.decode("utf-8", "replace")) for queue, name in cut]
    for hand in range(len(messages)):
        record.release(hand)
    assert file.messages() == []
    file.close()


def test_the_last_message_fits_and_the_counters_are_unchanged() -> None:
    file = SharedMemoryFile("test")
    record = SharedMemory(mmap.mmap(file.descriptor, 0))
    record.handled(5)
    record.take(MAX_HANDLERS - 1, CurrentMessage("q" * 255, "i" * 255))
    assert file.messages() == [CurrentMessage("q" * 255, "i" * 255)]
    assert file.read().handled == 5
    file.close()


def test_workers_see_at_once_which_messages_the_supervisor_blames(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = CrashTracker("jobs", lambda *_: None)
    monkeypatch.setenv(crashing_messages.VARIABLE, str(os.dup(tracker.file.descriptor)))
    inherited = CrashingMessages.inherited()
    assert inherited.get(A) is None
    tracker.blame(death(-signal.SIGSEGV, "killed by SIGSEGV, ä" * 100), [A])
    tracker.blame(death(-99), [A])
    found = inherited.get(A)
    assert found is not None
    assert (found.crashes, found.reason, found.signal) == (2, "killed by signal 99", "99")
    assert inherited.get(B) is None
    for number in range(2 * MOST):
        tracker.blame(death(1, "ß" * 1000), [CurrentMessage("ü" * 120, f"{number}" + "ö" * 120)])
    assert inherited.get(A) is None
    tracker.file.close()


def test_a_process_that_was_started_by_hand_knows_no_crashing_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(crashing_messages.VARIABLE, raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert CrashingMessages.inherited().get(A) is None
    SharedMemory.inherited().take(0, A)


def test_a_message_with_the_maximum_number_of_crashes_is_not_handled_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tracker = CrashTracker("jobs", lambda *_: None)
    monkeypatch.setenv(crashing_messages.VARIABLE, str(os.dup(tracker.file.descriptor)))
    file = SharedMemoryFile("test")
    protection = CrashProtection(
        SharedMemory(mmap.mmap(file.descriptor, 0)), CrashingMessages.inherited(), max_crashes=2, concurrency=1
    )
    message = Message(b"", "q", id="a")
    for _ in range(2):
        with protection.at(0, message):
            assert file.messages() == [A]
        tracker.blame(death(-signal.SIGKILL, "took 300 MiB", over_memory=True), [A])
    with (
        pytest.raises(Crashed, match=r"^the message crashed its worker twice, killed by SIGKILL, took 300 MiB$"),
        protection.at(0, message),
    ):
        raise AssertionError("it must not be handled")
    with protection.at(0, Message(b"", "q", id="b")):
        assert file.messages() == [B]
    assert file.messages() == []
    tracker.file.close()


def test_a_handler_that_must_be_alone_waits_for_all_others_and_they_wait_for_it() -> None:
    turn, inside, most, errors = Turn(), 0, 0, []
    lock = threading.Lock()

    def work(*, is_alone: bool) -> None:
        nonlocal inside, most
        for _ in range(200):
            with turn.alone() if is_alone else turn.together():
                with lock:
                    inside += 1
                    most = max(most, inside)
                    if is_alone and inside != 1:
                        errors.append(inside)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=work, kwargs={"is_alone": number < 2}) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert errors == []
