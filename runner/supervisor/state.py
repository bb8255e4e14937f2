"""The life of a slot as a pure function: ``step(slot, event, now) -> (slot, actions)``.

A slot is a place for one process, such as ``payment.2``; the processes that fill it one after the other are its
instances. Times are seconds of a monotonic clock.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from enum import StrEnum

from runner.errors import EXIT_BROKER, EXIT_CONFIG


class State(StrEnum):
    """The words of supervisord, and WAITING for what a slot needs before it may start."""

    STOPPED = "STOPPED"
    WAITING = "WAITING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    BACKOFF = "BACKOFF"
    FATAL = "FATAL"


@dataclass(frozen=True)
class Policy:
    """When to restart and when to give up; all times in seconds."""

    start_timeout: float = 30.0
    stop_timeout: float = 6.0
    #: The delay before a restart: ``initial``, then times ``factor`` for each further failure, up to ``longest``;
    #: each is multiplied by a random number from 0.5 to 1, so that not all slots start in the same instant.
    initial: float = 0.5
    factor: float = 2.0
    longest: float = 30.0
    #: The longest delay after an end that came from outside, which is no sign of a fault.
    longest_outside: float = 1.0
    #: Running this long after READY makes earlier failures forgotten.
    reset_after: float = 60.0
    #: This many failures within the window are FATAL.
    limit: int = 5
    window: float = 60.0


@dataclass(frozen=True)
class Slot:
    """All that is known of one slot."""

    name: str
    policy: Policy = Policy()
    state: State = State.STOPPED
    #: Whether a process is to run here; a stop clears it.
    wanted: bool = False
    pid: int | None = None
    #: When the state has lasted too long, or BACKOFF is over.
    deadline: float | None = None
    ready_at: float | None = None
    #: Failures in a row, for the delay; and the times of the counted ones, for the limit.
    attempt: int = 0
    failures: tuple[float, ...] = ()
    restarts: int = 0
    #: Why it is in this state, for people.
    why: str = ""


@dataclass(frozen=True)
class Start:
    """A process is wanted in this slot."""


@dataclass(frozen=True)
class Stop:
    """No process is wanted in this slot any more."""


@dataclass(frozen=True)
class Go:
    """Everything that the slot waits for is there."""


@dataclass(frozen=True)
class Spawned:
    """The process exists."""

    pid: int


@dataclass(frozen=True)
class SpawnFailed:
    """The process could not be made; ``draw`` is a random number from 0 to 1."""

    reason: str
    draw: float


@dataclass(frozen=True)
class Ready:
    """The process said READY=1."""


@dataclass(frozen=True)
class Exited:
    """The process has ended: ``code`` as of ``subprocess``, ``draw`` a random number from 0 to 1."""

    code: int
    draw: float


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = Start | Stop | Go | Spawned | SpawnFailed | Ready | Exited | Tick


class Action(StrEnum):
    """What the loop is to do."""

    SPAWN = "spawn"
    TERMINATE = "terminate"
    KILL = "kill"


#: Ends that come from outside: a person, or the kernel short of memory. They are no reason to give up.
_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)


def step(slot: Slot, event: Event, now: float) -> tuple[Slot, tuple[Action, ...]]:  # noqa: PLR0911 - one per event
    """Take ``slot`` through one event. An event that means nothing in the slot's state changes nothing."""
    match event:
        case Start():
            return _start(slot)
        case Stop():
            return _stop(slot, now)
        case Go() if slot.state is State.WAITING:
            deadline = now + slot.policy.start_timeout
            return replace(slot, state=State.STARTING, deadline=deadline, ready_at=None, why=""), (Action.SPAWN,)
        case Spawned(pid) if slot.state in (State.STARTING, State.STOPPING):
            return replace(slot, pid=pid), ()
        case SpawnFailed(reason, draw) if slot.state in (State.STARTING, State.STOPPING):
            return _failed(slot, reason, draw, now, is_counted=True), ()
        case Ready() if slot.state is State.STARTING and not slot.why:
            return replace(slot, state=State.RUNNING, ready_at=now, deadline=None, why=""), ()
        case Exited(code, draw) if slot.state in (State.STARTING, State.RUNNING, State.STOPPING):
            return _exited(slot, code, draw, now), ()
        case Tick() if slot.deadline is not None and now >= slot.deadline:
            return _expired(slot, now)
    return slot, ()


def _start(slot: Slot) -> tuple[Slot, tuple[Action, ...]]:
    if slot.state in (State.STOPPED, State.FATAL):
        return replace(slot, state=State.WAITING, wanted=True, attempt=0, failures=(), why=""), ()
    return replace(slot, wanted=True), ()


def _stop(slot: Slot, now: float) -> tuple[Slot, tuple[Action, ...]]:
    if slot.state in (State.STARTING, State.RUNNING):
        deadline = now + slot.policy.stop_timeout
        return replace(slot, state=State.STOPPING, wanted=False, deadline=deadline, why=""), (Action.TERMINATE,)
    if slot.state is State.STOPPING:
        return replace(slot, wanted=False), ()
    return replace(slot, state=State.STOPPED, wanted=False, deadline=None, why=""), ()


def _expired(slot: Slot, now: float) -> tuple[Slot, tuple[Action, ...]]:
    if slot.state is State.BACKOFF:
        return replace(slot, state=State.WAITING, deadline=None), ()
    # A killed process may take its time to go; the kill is repeated until its end is seen.
    deadline = now + slot.policy.stop_timeout
    why = slot.why or f"not ready within {slot.policy.start_timeout:g} s"
    if slot.state is State.STOPPING:
        why = f"did not stop within {slot.policy.stop_timeout:g} s"
    return replace(slot, deadline=deadline, why=why), (Action.KILL,)


def _exited(slot: Slot, code: int, draw: float, now: float) -> Slot:
    slot = replace(slot, pid=None)
    if slot.state is State.STOPPING:
        state = State.WAITING if slot.wanted else State.STOPPED
        return replace(slot, state=state, deadline=None, ready_at=None, why="")
    reason = describe_exit(code) + (f", {slot.why}" if slot.why else "")
    if code == EXIT_CONFIG:
        return replace(slot, state=State.FATAL, deadline=None, ready_at=None, why=reason)
    was_ready = slot.ready_at is not None
    if was_ready and now - (slot.ready_at or now) >= slot.policy.reset_after:
        slot = replace(slot, attempt=0, failures=())
    # Our own kill of a process that never got ready is a failure like any other.
    is_outside = code in _OUTSIDE and not slot.why
    if is_outside:
        slot = replace(slot, attempt=slot.attempt + 1, restarts=slot.restarts + 1)
        is_first = was_ready and slot.attempt == 1
        delay = min(backoff(slot.policy, slot.attempt, draw), slot.policy.longest_outside)
        return _backoff(slot, reason, 0.0 if is_first else delay, now)
    return _failed(slot, reason, draw, now, is_counted=code != EXIT_BROKER)


def _failed(slot: Slot, reason: str, draw: float, now: float, *, is_counted: bool) -> Slot:
    if slot.state is State.STOPPING:
        return replace(slot, state=State.WAITING if slot.wanted else State.STOPPED, deadline=None, why="")
    failures = tuple(one for one in slot.failures if now - one < slot.policy.window)
    if is_counted:
        failures = (*failures, now)
    slot = replace(slot, failures=failures, attempt=slot.attempt + 1)
    if len(failures) >= slot.policy.limit:
        why = f"{len(failures)} failures within {slot.policy.window:g} s, the last: {reason}"
        return replace(slot, state=State.FATAL, deadline=None, ready_at=None, why=why)
    # What had been ready once deserves one immediate restart.
    is_first = slot.ready_at is not None and slot.attempt == 1
    delay = 0.0 if is_first else backoff(slot.policy, slot.attempt, draw)
    return replace(_backoff(slot, reason, delay, now), restarts=slot.restarts + 1)


def _backoff(slot: Slot, reason: str, delay: float, now: float) -> Slot:
    return replace(slot, state=State.BACKOFF, deadline=now + delay, ready_at=None, why=reason)


def backoff(policy: Policy, attempt: int, draw: float) -> float:
    """Seconds to wait before restart number ``attempt``, which counts from 1."""
    # The exponent is clamped, because a float overflows after some thousand failures.
    delay = min(policy.initial * policy.factor ** min(attempt - 1, 64), policy.longest)
    return delay * (0.5 + 0.5 * draw)


def describe_exit(code: int) -> str:
    """``exit 1``, ``killed by SIGKILL``; the codes that mean something are said in words."""
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    words = {
        0: " without having been told to",
        EXIT_BROKER: ", the broker is away or not as declared",
        EXIT_CONFIG: ", wrong configuration",
    }
    return f"exit {code}{words.get(code, '')}"
