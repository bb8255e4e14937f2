"""Keeps one slot filled: performs what ``step`` decides for it, and turns what happens into its events."""

from __future__ import annotations

import asyncio
import errno
import itertools
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from runner.supervisor.crash_blame import Accusations, Death
from runner.supervisor.output.journal import Journal
from runner.supervisor.processes.child import Child
from runner.supervisor.processes.guard import Guard
from runner.supervisor.processes.listener import Listeners
from runner.supervisor.processes.usage import kills
from runner.supervisor.program import Program
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
from runner.supervisor.slot_lifecycle import ENDED, Slot, SlotAction, SlotState, step
from runner.supervisor.transition_report import Listener, Role, Transition

#: Seconds that a listening socket is held while no process accepts: those who wait longer have given up.
HOLD = 10.0


@dataclass(frozen=True)
class Means:
    """What all keepers share."""

    loop: asyncio.AbstractEventLoop
    journal: Journal
    guard: Guard
    listeners: Listeners
    #: Told of every transition, and then of anything else that may let somebody go on.
    on_transition: Listener
    on_change: Callable[[], None]
    #: Told that a process has ended, with its exit code.
    on_exit: Callable[[Keeper, int], None]
    #: Begins the name of every instance.
    mark: str
    serials: itertools.count[int]


class Keeper:
    """One slot of a service, with the process that fills it."""

    def __init__(self, means: Means, program: Program, name: str, dock: Accusations) -> None:
        self._means, self._dock = means, dock
        self.program = program
        self.slot = Slot(name, program.policy)
        self.child: Child | None = None
        #: What the process says of itself.
        self.status = ""
        #: Why it cannot do its work for now, as it says itself; empty when it can.
        self.problem = ""
        #: When it became what it is, in seconds of the monotonic clock.
        self.since = time.monotonic()
        self.started_at: float | None = None
        #: How many processes the kernel had killed for want of memory when this one began.
        self._kills = 0
        #: Whether it was killed for the memory it takes.
        self.is_condemned = False
        #: Whether its process is to be replaced although its program is the same.
        self.is_stale = False
        #: What it is to its slot.
        self.role = Role.HOLDER
        #: Whether people were told that it runs.
        self.is_announced = False
        self._addresses: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        #: Runs from the end of a process until the next one is ready.
        self._hold: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """The slot's name: ``payment.1``."""
        return self.slot.name

    @property
    def number(self) -> int:
        """The slot's number within its service."""
        return int(self.name.rpartition(".")[2])

    @property
    def is_over(self) -> bool:
        """Whether it has no process and wants none."""
        return self.slot.state in ENDED

    def start(self) -> None:
        """A process is wanted here."""
        self._feed(Start())

    def stop(self) -> None:
        """No process is wanted here any more."""
        self._feed(Stop())

    def give_way(self, successor: Keeper) -> None:
        """Before it is stopped: what it alone listens on is its process's alone, so that its close is the last one."""
        # A process that has not asked for a socket yet may still want one of these.
        if successor._addresses:
            self._let_go()

    def go(self) -> None:
        """What it waited for is there."""
        self._feed(Go())

    def kill(self) -> None:
        """End the process at once, whatever state it is in."""
        if self.child is not None:
            self.child.kill()

    def outgrown(self, reason: str) -> None:
        """End the process at once, because of the memory that it takes."""
        self.is_condemned = True
        self._means.journal.say(f"{self.name} {reason}: killed", "warning")
        self._feed(Condemned(reason))

    def run(self, program: Program) -> None:
        """Run another program here: at once where the process would be the same one, otherwise after its end."""
        is_same = program.is_same_process(self.program) and not self.is_stale
        self.program, self.is_stale = program, False
        self.slot = replace(self.slot, policy=program.policy)
        if not is_same:
            # What the other one did is nothing to this one.
            self.slot = replace(self.slot, attempt=0, failures=(), unready=0)
            if self.slot.wanted:
                self._feed(Stop())
                self._feed(Start())

    def _feed(self, event: Event) -> None:
        now = time.monotonic()
        before = self.slot
        self.slot, actions = step(before, event, now)
        if self.slot.deadline != before.deadline:
            self._set_timer(now)
        if self.slot.state is not before.state:
            self.since = now
            if self.is_over:
                self._let_go()
            self._means.on_transition(Transition(before, self.slot, time.time(), now, self.role))
        for action in actions:
            self._perform(action)

    def _perform(self, action: SlotAction) -> None:
        if action is SlotAction.SPAWN:
            self._spawn()
        elif self.child is not None and action is SlotAction.TERMINATE:
            self.child.terminate()
        elif self.child is not None and action is SlotAction.ABORT:
            self._means.journal.say(f"{self.name} {self.slot.why}: killed, its stacks follow", "warning")
            self.child.abort()
        elif self.child is not None:
            if self.slot.state is SlotState.STOPPING and not self.is_condemned:
                self._means.journal.say(f"{self.name} {self.slot.why}: killed", "warning")
            self.child.kill()

    def _set_timer(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.slot.deadline is not None:
            self._timer = self._means.loop.call_later(max(0.0, self.slot.deadline - now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._feed(Tick())
        if self._timer is None and self.slot.deadline is not None:
            self._set_timer(time.monotonic())  # it came a little too soon
        self._means.on_change()

    def _spawn(self) -> None:
        means = self._means
        instance = f"{means.mark}{next(means.serials)}"
        self.status, self.problem, self.is_announced, self._addresses = "", "", False, set()
        try:
            self.child = Child(
                means.loop, self.program, self.name, instance,
                self._on_words, partial(means.journal.child, self.name), self._on_exit, self._dock.file.descriptor,
            )  # fmt: skip
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._feed(SpawnFailed(f"{self.program.command[0]}: {reason}", random.random()))
            means.loop.call_soon(means.on_change)
            return
        self.started_at, self._kills, self.is_condemned = time.monotonic(), kills(), False
        means.guard.add(self.child.pid)
        self._feed(Spawned(self.child.pid))

    def _on_exit(self, code: int) -> None:
        assert self.child is not None  # noqa: S101 - it is the child that tells it
        self._means.guard.remove(self.child.pid)
        is_oom, is_leaving = kills() > self._kills, self.child.is_leaving
        death = Death(self.slot, code, self.is_condemned, is_oom, is_leaving)
        is_known = self._dock.judge(death, self.child.messages())
        self.child, self.started_at, self.status, self.problem, self._addresses = None, None, "", "", set()
        self._feed(Exited(code, random.random(), is_known))
        if self._hold is None:
            self._hold = self._means.loop.call_later(HOLD, self._end_hold)
        self._means.on_exit(self, code)
        self._means.on_change()

    def _end_hold(self) -> None:
        self._hold = None
        self._means.listeners.keep_only(self, self._addresses)

    def _let_go(self) -> None:
        self._addresses.clear()
        self._means.listeners.keep_only(self, set())

    def _on_words(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            key, _, value = line.decode("utf-8", "replace").partition("=")
            self._on_word(key, value)

    def _on_word(self, key: str, value: str) -> None:
        if key == "READY" and value == "1":
            if self._hold is not None:
                self._hold.cancel()
                self._hold = None
            self._means.listeners.keep_only(self, self._addresses)
            self._feed(Ready())
            self._means.on_change()
        elif key == "STATUS":
            self.status = value
            if self.slot.state is SlotState.RUNNING and not self.is_announced:
                self.is_announced = True
                self._means.journal.say(f"{self.name} RUNNING, pid {self.slot.pid}: {value}")
                self._means.on_change()
        elif key == "X_PROBLEM":
            self.problem = value
        elif key == "WATCHDOG":
            self._feed(Beat() if value == "1" else Hung(self.status or "found itself hung"))
        elif key == "LISTEN" and self.child is not None:
            self._listen(value)

    def _listen(self, address: str) -> None:
        assert self.child is not None  # noqa: S101 - for the type checker: the caller checked it
        if not self.slot.wanted:
            self.child.answer(f"LISTEN={errno.ECANCELED}")  # it is to stop, and may not take back what others have now
            return
        try:
            listener = self._means.listeners.get(self.program.service, self, address)
        except OSError as error:
            self.child.answer(f"LISTEN={error.errno or 0}")
        else:
            self._addresses.add(address)
            self.child.answer("LISTEN=ok", listener)
