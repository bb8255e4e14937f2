"""The report of a slot's change of state, and its words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from runner.invocation import invocation
from runner.supervisor.output.line import Line
from runner.supervisor.output.line_writer import LineWriter
from runner.supervisor.slot_lifecycle import Slot, SlotState


class Role(Enum):
    """What a process is to its slot."""

    HOLDER = "holder"
    #: It takes the place of the holder once it is ready.
    FRESH = "fresh"
    #: It held the slot, or its slot is gone, and finishes.
    OLD = "old"


@dataclass(frozen=True)
class Transition:
    """One slot went from one state to another."""

    before: Slot
    after: Slot
    #: Seconds since the epoch, and of the monotonic clock that a slot's own times are of.
    time: float
    now: float
    role: Role = Role.HOLDER


Listener = Callable[[Transition], None]


def words(transition: Transition) -> tuple[str, str] | None:
    """What people are told of it and the line's level; None for a change that nobody needs to be told of."""
    before, slot = transition.before, transition.after
    if transition.role is Role.FRESH:
        # What becomes of it is told by who waits for it, but for what it goes on after.
        is_excused = slot.state is SlotState.BACKOFF and not slot.failures
        return (f"{slot.name}, the new one, {slot.why}: tried again", "warning") if is_excused else None
    if slot.state is SlotState.BACKOFF and slot.deadline is not None:
        delay = max(0.0, slot.deadline - transition.now)
        when = f"in {delay:.1f} s" if delay >= 0.05 else "now"
        counted = f" ({len(slot.failures)}/{slot.policy.restart_limit.count})" if slot.failures else ""
        return f"{slot.name} {slot.why}: restarting {when}{counted}", "warning"
    if slot.state is SlotState.FATAL:
        again = f"mend it, then: {invocation('start', slot.name)}"
        return f"{slot.name} FATAL, {slot.why}: given up; {again}", "error"
    if slot.state is SlotState.EXITED:
        return f"{slot.name} EXITED, {slot.why}", "info" if slot.last_exit == 0 else "warning"
    if slot.state is SlotState.STOPPED and before.state is SlotState.STOPPING:
        return f"{slot.name} stopped{', the old one' if transition.role is Role.OLD else ''}", "info"
    return None


def history(file: LineWriter) -> Listener:
    """A listener that writes down every transition, one line each."""

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
