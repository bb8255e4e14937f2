"""Reports of a slot's state changes in the log and in the history file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from runner.invocation import invocation
from runner.supervisor.output.line import Line
from runner.supervisor.output.line_writer import LineWriter
from runner.supervisor.slot_lifecycle import Slot, SlotState


class Role(Enum):
    """The role of a process in its slot."""

    #: The process that occupies the slot.
    HOLDER = "holder"
    #: The new process, which will occupy the slot as soon as the new process is ready.
    FRESH = "fresh"
    #: A stopping process, which was replaced or whose slot was removed.
    OLD = "old"


@dataclass(frozen=True)
class Transition:
    """A change in the state of a slot."""

    before: Slot
    after: Slot
    #: The time of the change, in seconds since the epoch.
    time: float
    #: The time of the change, in seconds of the monotonic clock.
    now: float
    role: Role = Role.HOLDER


Listener = Callable[[Transition], None]


def words(transition: Transition) -> tuple[str, str] | None:
    """Return the log line for a transition and its level, or None if the transition is not logged."""
    before, slot = transition.before, transition.after
    if transition.role is Role.FRESH:
        # ``Service`` reports the result of a replacement. Only a restart of the new process is logged here.
        is_excused = slot.state is SlotState.BACKOFF and not slot.failures
        return (f"{slot.name} (new process) {slot.why}: restarting", "warning") if is_excused else None
    if slot.state is SlotState.BACKOFF and slot.deadline is not None:
        delay = max(0.0, slot.deadline - transition.now)
        when = f"in {delay:.1f} s" if delay >= 0.05 else "now"
        limit = slot.policy.restart_limit.count
        counted = f" (failure {len(slot.failures)} of {limit})" if slot.failures else ""
        return f"{slot.name} {slot.why}: restarting {when}{counted}", "warning"
    if slot.state is SlotState.FATAL:
        remedy = f"fix the cause, then run: {invocation('start', slot.name)}"
        return f"{slot.name} FATAL, {slot.why}: given up; {remedy}", "error"
    if slot.state is SlotState.EXITED:
        return f"{slot.name} EXITED, {slot.why}", "info" if slot.last_exit == 0 else "warning"
    if slot.state is SlotState.STOPPED and before.state is SlotState.STOPPING:
        return f"{slot.name}{': the old process' if transition.role is Role.OLD else ''} stopped", "info"
    return None


def history(file: LineWriter) -> Listener:
    """Return a listener that writes a line about every transition to the history file."""

    def write(transition: Transition) -> None:
        before, after = transition.before, transition.after
        text = f"{after.name} {before.state} -> {after.state}"
        pid = after.pid or before.pid
        text += f", pid {pid}" if pid else ""
        if before.pid and not after.pid and after.last_exit is not None:
            text += f", {after.last_reason}"
        text += f": {after.why}" if after.why and after.why != after.last_reason else ""
        file.put([Line(transition.time, "history", text, "info")])

    return write
