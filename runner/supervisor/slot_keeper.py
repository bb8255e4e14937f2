"""The keeper of one slot, which passes events to the ``step`` function and performs the returned actions."""

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

from runner.supervisor.crash_blame import CrashTracker, Death
from runner.supervisor.live_steps import LiveSteps
from runner.supervisor.output.journal import Journal
from runner.supervisor.processes.child import Child
from runner.supervisor.processes.guard import Guard
from runner.supervisor.processes.listener import Listeners
from runner.supervisor.processes.usage import kills
from runner.supervisor.program import Program
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
from runner.supervisor.slot_lifecycle import ENDED, Slot, SlotAction, SlotState, step
from runner.supervisor.timeline import Timeline
from runner.supervisor.transition_report import Listener, Role, Transition

#: Seconds for which a listening socket without a process is kept open. After this time, most clients have given up.
SOCKET_TIME = 10.0


@dataclass(frozen=True)
class Means:
    """The resources and callbacks that all keepers share."""

    loop: asyncio.AbstractEventLoop
    journal: Journal
    guard: Guard
    listeners: Listeners
    #: The function to call after each transition.
    on_transition: Listener
    #: The function to call after each change that may let another slot take its next step.
    on_change: Callable[[], None]
    #: The function to call with the exit code of each process.
    on_exit: Callable[[Keeper, int], None]
    steps: LiveSteps
    timeline: Timeline
    #: The prefix of all instance names.
    mark: str
    serials: itertools.count[int]


class Keeper:
    """The keeper of one slot, which starts and stops the slot's process."""

    def __init__(self, means: Means, program: Program, name: str, crashes: CrashTracker) -> None:
        self._means, self._crashes = means, crashes
        self.program = program
        self.slot = Slot(name, program.policy)
        self.child: Child | None = None
        #: The last status text from the process.
        self.status = ""
        #: The process's own report of why it cannot work at the moment. Empty if the process can work.
        self.problem = ""
        #: The time of the slot's last state change, in seconds of the monotonic clock.
        self.since = time.monotonic()
        self.started_at: float | None = None
        #: The number of OOM kills on this machine when the process started.
        self._kills = 0
        #: True if the process was killed for using too much memory.
        self.is_over_memory = False
        #: True if the process must be replaced even though its program has not changed.
        self.is_stale = False
        self.role = Role.HOLDER
        #: True if the ``RUNNING`` line of the process was logged.
        self.is_announced = False
        self._addresses: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        #: The timer that starts when a process exits and is cancelled when the next process is ready.
        self._socket_timer: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """The name of the slot, such as ``payment.1``."""
        return self.slot.name

    @property
    def number(self) -> int:
        """The number of the slot within its service."""
        return int(self.name.rpartition(".")[2])

    @property
    def is_over(self) -> bool:
        """True if the slot neither has nor needs a process."""
        return self.slot.state in ENDED

    def start(self) -> None:
        """Start a process as soon as possible."""
        self._feed(Start())

    def stop(self) -> None:
        """Stop the process, and do not start another process."""
        self._feed(Stop())

    def give_way(self, successor: Keeper) -> None:
        """Release the sockets that only this slot uses, so that its stopping process closes the sockets last."""
        # If the successor has no socket yet, it may still request one of the sockets.
        if successor._addresses:
            self._let_go()

    def go(self) -> None:
        """Start the process of a slot that no longer needs to wait."""
        self._feed(Go())

    def kill(self) -> None:
        """Kill the process, whatever the state of the slot."""
        if self.child is not None:
            self.child.kill()

    def kill_over_memory(self, reason: str) -> None:
        """Kill the process for using too much memory, and log the reason."""
        self.is_over_memory = True
        self._means.journal.say(f"{self.name} {reason}: killed", "warning")
        self._feed(MemoryExceeded(reason))

    def run(self, program: Program) -> None:
        """Change the slot to another program.

        A running process is restarted, unless the process can keep running for the new program.
        """
        is_same = program.is_same_process(self.program) and not self.is_stale
        self.program, self.is_stale = program, False
        self.slot = replace(self.slot, policy=program.policy)
        if not is_same:
            # Failures of the old program must not count against the new program.
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
            self._means.journal.say(f"{self.name} {self.slot.why}: killed, stack traces follow", "warning")
            self.child.abort()
        elif self.child is not None:
            if self.slot.state is SlotState.STOPPING and not self.is_over_memory:
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
            self._set_timer(time.monotonic())  # the timer fired slightly too early
        self._means.on_change()

    def _spawn(self) -> None:
        means = self._means
        instance = f"{means.mark}{next(means.serials)}"
        self.status, self.problem, self.is_announced, self._addresses = "", "", False, set()
        try:
            self.child = Child(
                means.loop, self.program, self.name, instance,
                self._on_words, partial(means.journal.child, self.name), self._on_exit, self._crashes.file.descriptor,
            )  # fmt: skip
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._feed(SpawnFailed(f"{self.program.command[0]}: {reason}", random.random()))
            means.loop.call_soon(means.on_change)
            return
        self.started_at, self._kills, self.is_over_memory = time.monotonic(), kills(), False
        means.guard.add(self.child.pid)
        means.steps.start(self.child.steps)
        self._feed(Spawned(self.child.pid))

    def _on_exit(self, code: int) -> None:
        assert self.child is not None  # noqa: S101 - for the type checker: only the child calls this method
        self._means.guard.remove(self.child.pid)
        is_oom, is_leaving = kills() > self._kills, self.child.is_leaving
        death = Death(self.slot, code, self.is_over_memory, is_oom, is_leaving)
        is_known = self._crashes.blame(death, self.child.messages())
        self._means.steps.end(self.name, self.child.steps)
        self.child, self.started_at, self.status, self.problem, self._addresses = None, None, "", "", set()
        self._feed(Exited(code, random.random(), is_known))
        if self._socket_timer is None:
            self._socket_timer = self._means.loop.call_later(SOCKET_TIME, self._on_socket_timer)
        self._means.on_exit(self, code)
        self._means.on_change()

    def _on_socket_timer(self) -> None:
        self._socket_timer = None
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
            if self._socket_timer is not None:
                self._socket_timer.cancel()
                self._socket_timer = None
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
            if bool(value) != bool(self.problem):
                text = f"cannot work at present, retrying: {value}" if value else "can work again"
                self._means.timeline.add("broker", self.name, text)
            self.problem = value
        elif key == "WATCHDOG":
            self._feed(WatchdogPing() if value == "1" else WatchdogTrigger(self.status or "reported that it hangs"))
        elif key == "LISTEN" and self.child is not None:
            self._listen(value)

    def _listen(self, address: str) -> None:
        assert self.child is not None  # noqa: S101 - for the type checker: the caller checked it
        if not self.slot.wanted:
            self.child.answer(f"LISTEN={errno.ECANCELED}")  # a stopping process must not get a released socket back
            return
        try:
            listener = self._means.listeners.get(self.program.service, self, address)
        except OSError as error:
            self.child.answer(f"LISTEN={error.errno or 0}")
        else:
            self._addresses.add(address)
            self.child.answer("LISTEN=ok", listener)
