"""A pure function for the states, restarts and failures of a slot: ``step(slot, event, now) -> (slot, actions)``.

A slot, such as ``payment.2``, has at most one process at a time. Each process of a slot is an instance. Times are in
seconds of a monotonic clock.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace
from enum import StrEnum

from runner.errors import EXIT_BROKER, EXIT_CONFIG, EXIT_OK, EXIT_STORE, EXIT_TERMINATED
from runner.supervisor.program import Restart, RestartPolicy
from runner.supervisor.slot_event import (
    Event,
    Exited,
    Go,
    MemoryExceeded,
    Ready,
    Spawned,
    SpawnFailed,
    Start,
    Stop,
    Tick,
    WatchdogPing,
    WatchdogTrigger,
)

#: Seconds for a hanging process to print the stacks of its threads before the process is killed.
DUMP_TIME = 2.0
#: The longest restart delay in seconds after another process has killed an instance. Such a kill is not a failure of
#: the service.
LONGEST_OUTSIDE = 1.0
#: The longest restart delay in seconds while the database is unreachable, so that services restart soon after the
#: outage.
LONGEST_UNREACHABLE = 5.0


class SlotState(StrEnum):
    """The states of a slot, as in supervisord, plus WAITING for a slot that must not start yet."""

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
    """The complete state of one slot."""

    name: str
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    state: SlotState = SlotState.STOPPED
    #: True from a ``Start`` event to the next ``Stop`` event, while the slot needs a process.
    wanted: bool = False
    pid: int | None = None
    #: The time at which the current state times out, or at which BACKOFF ends.
    deadline: float | None = None
    ready_at: float | None = None
    #: The number of consecutive restarts, which determines the next restart delay.
    attempt: int = 0
    #: The times of the failures that count toward the restart limit.
    failures: tuple[float, ...] = ()
    #: The number of consecutive failures of processes that were never ready.
    unready: int = 0
    restarts: int = 0
    #: The reason for the current state, for the user. In STARTING and RUNNING, the reason why the process is being
    #: killed.
    why: str = ""
    #: The last instance's exit code as in ``subprocess``, and the time of the exit.
    last_exit: int | None = None
    last_exit_at: float | None = None
    #: A description of the last exit, with the reason if the supervisor killed the process.
    last_reason: str = ""


class SlotAction(StrEnum):
    """The actions that the keeper performs for its slot."""

    SPAWN = "spawn"
    TERMINATE = "terminate"
    #: Make the process print the stacks of its threads and exit.
    ABORT = "abort"
    KILL = "kill"


#: The exit codes after a kill from outside, by a user or by the kernel for lack of memory. Kills from outside never
#: make a slot FATAL.
OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, EXIT_TERMINATED)
#: The states without a process, which last until the next ``Start`` event.
ENDED = (SlotState.STOPPED, SlotState.EXITED, SlotState.FATAL)

Outcome = tuple[Slot, tuple[SlotAction, ...]]


def step(slot: Slot, event: Event, now: float) -> Outcome:  # noqa: PLR0911 - one per event
    """Return the slot after an event, and the actions to perform. Events that do not apply to the state are ignored."""
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
        case WatchdogPing() if slot.state is SlotState.RUNNING and not slot.why:
            return _alive(slot, now), ()
        case WatchdogTrigger(reason) if slot.state is SlotState.RUNNING and not slot.why:
            return _abort(slot, reason, now)
        case MemoryExceeded(reason) if slot.state in (SlotState.STARTING, SlotState.RUNNING, SlotState.STOPPING):
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
        return replace(slot, wanted=False), ()  # a finished job remains EXITED
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
        return _abort(slot, f"sent no watchdog ping for {slot.policy.watchdog:g} s", now)
    if slot.state is SlotState.STARTING and not slot.why:
        return _abort(slot, f"not ready within {slot.policy.start_timeout:g} s", now)
    # A killed process may exit only after a delay, so the kill is repeated until the process has exited.
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
        slot = replace(slot, attempt=0)  # ``failures`` is kept: only the window determines which failures count
    if is_known:
        # The crashing message will soon be dead-lettered. So the exit is not a failure, and the next delay does not
        # grow.
        return replace(_again(slot, reason, draw, now, longest=LONGEST_OUTSIDE), attempt=slot.attempt)
    # If the supervisor itself killed a hanging process, the exit is an ordinary failure.
    is_outside = code in OUTSIDE and not slot.why
    if is_outside or code == EXIT_STORE:
        return _again(slot, reason, draw, now, longest=LONGEST_OUTSIDE if is_outside else LONGEST_UNREACHABLE)
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
        return _ended(slot, SlotState.FATAL, f"{len(failures)} failures within {limit.window:g} s; the last: {reason}")
    if is_counted and unready >= limit.count:
        return _ended(slot, SlotState.FATAL, f"{unready} consecutive starts failed; the last: {reason}")
    return _again(slot, reason, draw, now)


def _again(slot: Slot, reason: str, draw: float, now: float, longest: float = float("inf")) -> Slot:
    attempt = slot.attempt + 1
    # The first restart of a process that was ready is immediate.
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
    """Return a description of an exit code, such as ``exited with status 1`` or ``killed by SIGKILL``.

    ``is_asked`` is True if the exit was expected.
    """
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    words = {
        0: "" if is_asked else " unexpectedly",
        EXIT_TERMINATED: "" if is_asked else " after SIGTERM",
        EXIT_STORE: " (database unreachable)",
        EXIT_BROKER: " (broker unreachable or topology missing)",
        EXIT_CONFIG: " (configuration error)",
    }
    return f"exited with status {code}{words.get(code, '')}"
