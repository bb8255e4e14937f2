"""What a slot's change of state is to people."""

from __future__ import annotations

from runner.supervisor.state import Slot, State


def report(before: Slot, slot: Slot, now: float) -> tuple[str, str] | None:
    """The words and their level; None for a change that nobody needs to be told of."""
    if slot.state is State.BACKOFF and slot.deadline is not None:
        delay = max(0.0, slot.deadline - now)
        when = f"in {delay:.1f} s" if delay >= 0.05 else "now"
        counted = f" ({len(slot.failures)}/{slot.policy.limit})" if slot.failures else ""
        return f"{slot.name} {slot.why}: restarting {when}{counted}", "warning"
    if slot.state is State.FATAL:
        return f"{slot.name} FATAL, {slot.why}: given up; mend it and start the runner again", "error"
    if slot.state is State.STOPPED and before.pid is not None:
        return f"{slot.name} stopped", "info"
    return None
