"""The states of a slot, with restarts and giving up, as a pure function: ``step(slot, event, now) -> (slot, actions)``.

A slot is a place for one process, such as ``payment.2``; the processes that fill it one after the other are its
instances. Times are seconds of a monotonic clock.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace
from enum import StrEnum

from runner.errors import EXIT_BROKER, EXIT_CONFIG, EXIT_OK, EXIT_STORE, EXIT_TERMINATED
from runner.supervisor.program import Restart, RestartPolicy
from runner.supervisor.slot_event import (
    Beat,
    Condemned,
    Event,
    Exited,
    Go,
    Hung,
    Ready,
    Spawned,
    SpawnFailed,
    Start,
    Stop,
    Tick,
)

#: Seconds that a hung process has to write down its stacks before it is killed.
DUMP_TIME = 2.0
#: The longest delay after an end that came from outside, which is no sign of a fault.
LONGEST_OUTSIDE = 1.0
#: Likewise while the database is away, so that it is noticed soon when it is back.
LONGEST_AWAY = 5.0


class SlotState(StrEnum):
    """The words of supervisord, and WAITING for what a slot needs before it may start."""

    STOPPED = "STOPPED"
    WAITING = "WAITING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    BACKOFF = "BACKOFF"
    EXITED = "EXITED"
    FATAL = "FATAL"


@dataclass(frozen=True)
class Slot:
    """All that is known of one slot."""

    name: str
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    state: SlotState = SlotState.STOPPED
    #: Whether a process is to run here; a stop clears it.
    wanted: bool = False
    pid: int | None = None
    #: When the state has lasted too long, or BACKOFF is over.
    deadline: float | None = None
    ready_at: float | None = None
    #: Failures in a row, for the delay; the times of the counted ones, for the limit; those that never got ready.
    attempt: int = 0
    failures: tuple[float, ...] = ()
    unready: int = 0
    restarts: int = 0
    #: Why it is in this state, for people. In STARTING and RUNNING: why its process is being killed.
    why: str = ""
    #: How the last instance ended: its code as of ``subprocess``, and when.
    last_exit: int | None = None
    last_exit_at: float | None = None
    #: The same in words, with why it was killed where it was.
    last_reason: str = ""


class SlotAction(StrEnum):
    """What the loop is to do."""

    SPAWN = "spawn"
    TERMINATE = "terminate"
    #: Have it write down its stacks, and end.
    ABORT = "abort"
    KILL = "kill"


#: Ends that come from outside: a person, or the kernel short of memory. They are no reason to give up.
OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, EXIT_TERMINATED)
#: States without a process that no time leads out of.
ENDED = (SlotState.STOPPED, SlotState.EXITED, SlotState.FATAL)

Outcome = tuple[Slot, tuple[SlotAction, ...]]


def step(slot: Slot, event: Event, now: float) -> Outcome:  # noqa: PLR0911 - one per event
    """Take ``slot`` through one event. An event that means nothing in the slot's state changes nothing."""
    match event:
        case Start():
            return _start(slot)
        case Stop():
            return _stop(slot, now)
        case Go() if slot.state is SlotState.WAITING:
            deadline = now + slot.policy.start_timeout
            return replace(slot, state=SlotState.STARTING, deadline=deadline, ready_at=None, why=""), (
                SlotAction.SPAWN,
            )
        case Spawned(pid) if slot.state in (SlotState.STARTING, SlotState.STOPPING):
            return replace(slot, pid=pid), ()
        case SpawnFailed(reason, draw) if slot.state in (SlotState.STARTING, SlotState.STOPPING):
            return _failed(slot, reason, draw, now, is_counted=True), ()
        case Ready() if slot.state is SlotState.STARTING and not slot.why:
            return _alive(replace(slot, state=SlotState.RUNNING, ready_at=now, unready=0), now), ()
        case Beat() if slot.state is SlotState.RUNNING and not slot.why:
            return _alive(slot, now), ()
        case Hung(reason) if slot.state is SlotState.RUNNING and not slot.why:
            return _abort(slot, reason, now)
        case Condemned(reason) if slot.state in (SlotState.STARTING, SlotState.RUNNING, SlotState.STOPPING):
            return replace(slot, deadline=now + DUMP_TIME, why=reason), (SlotAction.KILL,)
        case Exited(code, draw, is_known) if slot.state in (SlotState.STARTING, SlotState.RUNNING, SlotState.STOPPING):
            is_asked = slot.state is SlotState.STOPPING or slot.policy.restart is not Restart.ALWAYS
            reason = describe_exit(code, is_asked=is_asked) + (f", {slot.why}" if slot.why else "")
            slot = replace(slot, pid=None, last_exit=code, last_exit_at=now, last_reason=reason)
            return _exited(slot, code, reason, draw, now, is_known=is_known), ()
        case Tick() if slot.deadline is not None and now >= slot.deadline:
            return _expired(slot, now)
    return slot, ()


def _start(slot: Slot) -> Outcome:
    if slot.state in ENDED:
        return replace(slot, state=SlotState.WAITING, wanted=True, attempt=0, failures=(), unready=0, why=""), ()
    return replace(slot, wanted=True), ()


def _stop(slot: Slot, now: float) -> Outcome:
    if slot.state in (SlotState.STARTING, SlotState.RUNNING):
        deadline = now + slot.policy.stop_timeout
        return replace(slot, state=SlotState.STOPPING, wanted=False, deadline=deadline, why=""), (SlotAction.TERMINATE,)
    if slot.state is SlotState.STOPPING:
        return replace(slot, wanted=False), ()
    if slot.state is SlotState.EXITED:
        return replace(slot, wanted=False), ()  # that it did what it was to do is not forgotten
    return replace(slot, state=SlotState.STOPPED, wanted=False, deadline=None, why=""), ()


def _alive(slot: Slot, now: float) -> Slot:
    watchdog = slot.policy.watchdog
    return replace(slot, deadline=now + watchdog if watchdog else None, why="")


def _abort(slot: Slot, reason: str, now: float) -> Outcome:
    return replace(slot, deadline=now + DUMP_TIME, why=reason), (SlotAction.ABORT,)


def _expired(slot: Slot, now: float) -> Outcome:
    if slot.state is SlotState.BACKOFF:
        return replace(slot, state=SlotState.WAITING, deadline=None), ()
    if slot.state is SlotState.RUNNING and not slot.why:
        return _abort(slot, f"gave no sign of life for {slot.policy.watchdog:g} s", now)
    if slot.state is SlotState.STARTING and not slot.why:
        return _abort(slot, f"not ready within {slot.policy.start_timeout:g} s", now)
    # A killed process may take its time to go; the kill is repeated until its end is seen.
    why = slot.why or f"did not stop within {slot.policy.stop_timeout:g} s"
    return replace(slot, deadline=now + max(slot.policy.stop_timeout, 0.1), why=why), (SlotAction.KILL,)


def _exited(slot: Slot, code: int, reason: str, draw: float, now: float, *, is_known: bool) -> Slot:
    if slot.state is SlotState.STOPPING:
        return _stopped(slot)
    if code == EXIT_CONFIG:
        return _ended(slot, SlotState.FATAL, reason)
    is_done = slot.policy.restart is Restart.ON_FAILURE and code == EXIT_OK
    if is_done or slot.policy.restart is Restart.NEVER:
        return _ended(slot, SlotState.EXITED, "done" if code == EXIT_OK else reason)
    if slot.ready_at is not None and now - slot.ready_at >= slot.policy.reset_after:
        slot = replace(slot, attempt=0)  # the window alone says which failures count
    if is_known:
        # Not the service's fault, and soon over: neither a failure nor a longer delay for what follows.
        return replace(_again(slot, reason, draw, now, longest=LONGEST_OUTSIDE), attempt=slot.attempt)
    # Our own kill of a process that hung is a failure like any other.
    is_outside = code in OUTSIDE and not slot.why
    if is_outside or code == EXIT_STORE:
        return _again(slot, reason, draw, now, longest=LONGEST_OUTSIDE if is_outside else LONGEST_AWAY)
    return _failed(slot, reason, draw, now, is_counted=code != EXIT_BROKER)


def _failed(slot: Slot, reason: str, draw: float, now: float, *, is_counted: bool) -> Slot:
    if slot.state is SlotState.STOPPING:
        return _stopped(slot)
    limit = slot.policy.restart_limit
    failures = tuple(one for one in slot.failures if now - one < limit.window)
    unready = slot.unready
    if is_counted:
        failures = (*failures, now)
        unready += slot.ready_at is None
    slot = replace(slot, failures=failures, unready=unready)
    if is_counted and len(failures) >= limit.count:
        return _ended(slot, SlotState.FATAL, f"{len(failures)} failures within {limit.window:g} s, the last: {reason}")
    if is_counted and unready >= limit.count:
        return _ended(slot, SlotState.FATAL, f"{unready} starts in a row failed, the last: {reason}")
    return _again(slot, reason, draw, now)


def _again(slot: Slot, reason: str, draw: float, now: float, longest: float = float("inf")) -> Slot:
    attempt = slot.attempt + 1
    # What had been ready once deserves one immediate restart.
    is_first = slot.ready_at is not None and attempt == 1
    delay = 0.0 if is_first else min(slot.policy.backoff.delay(attempt, draw), longest)
    restarts = slot.restarts + 1
    slot = replace(slot, state=SlotState.BACKOFF, deadline=now + delay, ready_at=None, why=reason)
    return replace(slot, attempt=attempt, restarts=restarts)


def _stopped(slot: Slot) -> Slot:
    state = SlotState.WAITING if slot.wanted else SlotState.STOPPED
    return replace(slot, state=state, deadline=None, ready_at=None, why="")


def _ended(slot: Slot, state: SlotState, why: str) -> Slot:
    return replace(slot, state=state, deadline=None, ready_at=None, why=why)


def describe_exit(code: int, *, is_asked: bool = False) -> str:
    """``exit 1``, ``killed by SIGKILL``; codes that mean something in words. ``is_asked``: it was to end."""
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    words = {
        0: "" if is_asked else " without having been told to",
        EXIT_TERMINATED: "" if is_asked else ", ended by SIGTERM",
        EXIT_STORE: ", the database is away",
        EXIT_BROKER: ", the broker is away or not as declared",
        EXIT_CONFIG: ", wrong configuration",
    }
    return f"exit {code}{words.get(code, '')}"
