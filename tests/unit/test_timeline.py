"""The timeline: its limits, its numbers, and the entry for each transition of a slot."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from runner.errors import EXIT_BROKER
from runner.supervisor.control.note import NOTE_KINDS, add_note
from runner.supervisor.slot_lifecycle import Slot, SlotState
from runner.supervisor.timeline import KINDS, LONGEST_SUBJECT, LONGEST_TEXT, MOST_ENTRIES, Timeline
from runner.supervisor.transition_report import Role, Transition

SLOT = Slot("payment.1")
WAITING, STARTING, RUNNING, STOPPING = (
    replace(SLOT, state=state, pid=None if state is SlotState.WAITING else 7)
    for state in (SlotState.WAITING, SlotState.STARTING, SlotState.RUNNING, SlotState.STOPPING)
)
STOPPED, FATAL = replace(SLOT, state=SlotState.STOPPED), replace(SLOT, state=SlotState.FATAL, why="5 failures")
BACKOFF = replace(SLOT, state=SlotState.BACKOFF, deadline=11.5, why="exited with status 1", failures=(9.0,))


def test_the_oldest_entries_are_dropped_and_the_ids_continue() -> None:
    timeline = Timeline()
    assert timeline.after(0) == []
    for number in range(MOST_ENTRIES + 20):
        timeline.add("command", "payment", f"command {number}")
    found = timeline.after(0)
    assert [one.id for one in found] == list(range(21, MOST_ENTRIES + 21))
    assert [one.text for one in timeline.after(MOST_ENTRIES + 18)] == ["command 518", "command 519"]
    assert timeline.after(MOST_ENTRIES + 20) == []


def test_long_texts_are_shortened() -> None:
    timeline = Timeline()
    timeline.add("command", "s" * 1000, "t" * 1000)
    timeline.add("command", "s" * LONGEST_SUBJECT, "t" * LONGEST_TEXT, 12.5)
    first, second = timeline.after(0)
    assert (len(first.subject), len(first.text), first.text[-1]) == (LONGEST_SUBJECT, LONGEST_TEXT, "…")
    assert second.as_json() == {
        "id": 2, "time": 12.5, "kind": "command", "subject": "s" * LONGEST_SUBJECT, "text": "t" * LONGEST_TEXT,
    }  # fmt: skip


def test_entries_of_several_threads_have_ids_in_their_order() -> None:
    timeline = Timeline()

    def add() -> None:
        for _ in range(100):
            timeline.add("command", "payment", "text")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.id for one in timeline.after(0)] == list(range(1, 401))


@pytest.mark.parametrize(
    ("before", "after", "role", "entry"),
    [
        (SLOT, WAITING, Role.HOLDER, None),
        (WAITING, STARTING, Role.HOLDER, None),
        (STARTING, RUNNING, Role.HOLDER, ("started", "the process is running, pid 7")),
        (RUNNING, STOPPING, Role.HOLDER, None),
        (STOPPING, STOPPED, Role.HOLDER, ("stopped", "the process has stopped")),
        (STOPPING, WAITING, Role.HOLDER, ("restarting", "the old process has stopped, and a new process starts")),
        (
            RUNNING, BACKOFF, Role.HOLDER,
            ("crashed", "exited with status 1: restarting in 1.5 s (failure 1 of 5)"),
        ),
        (
            RUNNING, replace(BACKOFF, last_exit=EXIT_BROKER, why="no broker", failures=()), Role.HOLDER,
            ("restarting", "no broker: restarting in 1.5 s"),
        ),
        (BACKOFF, WAITING, Role.HOLDER, None),
        (
            RUNNING, replace(SLOT, state=SlotState.EXITED, why="done", last_exit=0), Role.HOLDER,
            ("stopped", "EXITED, done"),
        ),
        (
            RUNNING, replace(SLOT, state=SlotState.EXITED, why="killed by SIGKILL", last_exit=-9), Role.HOLDER,
            ("crashed", "EXITED, killed by SIGKILL"),
        ),
        (SLOT, WAITING, Role.FRESH, ("restarting", "a new process starts before the old process stops")),
        (STARTING, RUNNING, Role.FRESH, ("started", "the new process is running, pid 7")),
        (STARTING, BACKOFF, Role.FRESH, ("crashed", "the new process exited with status 1")),
        (STARTING, FATAL, Role.FRESH, ("fatal", "the new process 5 failures")),
        (STOPPING, STOPPED, Role.OLD, ("stopped", "the old process has stopped")),
    ],
)  # fmt: skip
def test_each_transition_that_a_user_would_notice_gets_an_entry(
    before: Slot, after: Slot, role: Role, entry: tuple[str, str] | None
) -> None:
    timeline = Timeline()
    timeline.add_transition(Transition(before, after, 99.0, 10.0, role))
    found = [(one.time, one.subject, one.kind, one.text) for one in timeline.after(0)]
    assert found == ([] if entry is None else [(99.0, "payment.1", *entry)])
    assert {one.kind for one in timeline.after(0)} <= set(KINDS)


def test_a_slot_that_was_given_up_is_reported_with_its_reason_and_the_remedy() -> None:
    timeline = Timeline()
    timeline.add_transition(Transition(STARTING, FATAL, 99.0, 10.0))
    (one,) = timeline.after(0)
    assert one.kind == "fatal"
    assert one.text.startswith("FATAL, 5 failures: given up; fix the cause, then run: ")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"kind": "crashed"}, "kind: unknown kind, 'crashed'; allowed: command, fault"),
        ({"kind": None}, "kind: unknown kind, None; allowed: command, fault"),
        ({"kind": []}, "kind: unknown kind, []; allowed: command, fault"),
        ({"subject": " "}, "subject: invalid value, ' '; allowed: a text that is not empty"),
        ({"text": 3}, "text: invalid value, 3; allowed: a text that is not empty"),
    ],
)
def test_a_note_with_a_wrong_field_is_refused(change: dict[str, Any], error: str) -> None:
    timeline = Timeline()
    with pytest.raises(ValueError, match="allowed") as caught:
        add_note(timeline, {"kind": "fault", "subject": "payment.1", "text": "killed"} | change)
    assert str(caught.value) == error
    assert timeline.after(0) == []


def test_a_note_becomes_an_entry() -> None:
    timeline = Timeline()
    for kind in NOTE_KINDS:
        add_note(timeline, {"kind": kind, "subject": "payment.1", "text": "killed"})
    assert [(one.kind, one.subject, one.text) for one in timeline.after(0)] == [
        (kind, "payment.1", "killed") for kind in NOTE_KINDS
    ]
    assert set(NOTE_KINDS) <= set(KINDS)
