"""The supervisor's loop: performs what ``step`` decides, and turns what happens into its events."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial

from runner.errors import EXIT_BROKER, EXIT_FAILURE, EXIT_OK, RunnerError
from runner.supervisor.child import Child
from runner.supervisor.console import Console
from runner.supervisor.gate import Gate
from runner.supervisor.guard import Guard
from runner.supervisor.program import Program
from runner.supervisor.report import report
from runner.supervisor.state import (
    Action,
    Event,
    Exited,
    Go,
    Ready,
    Slot,
    Spawned,
    SpawnFailed,
    Start,
    State,
    Stop,
    Tick,
    step,
)

#: Seconds; one Ctrl-C may arrive twice, from the terminal and from a program above us that passes it on.
SAME_KEY_PRESS = 0.3


class Supervisor:
    """Runs programs in slots until SIGTERM or SIGINT; a second signal kills instead of asking."""

    def __init__(self, programs: Sequence[Program], prepare: Callable[[], None], console: Console) -> None:
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._programs = {program.slot: program for program in programs}
        self._slots = {program.slot: Slot(program.slot, program.policy) for program in programs}
        self._children: dict[str, Child] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        #: What was last said of the gate; it is not said again.
        self._said_waiting = self._said_refused = ""
        self._announced: set[str] = set()
        #: Slots that are to be forgotten once they have stopped.
        self._leaving: set[str] = set()
        self._prepare, self._console = prepare, console
        self._was_complete = False
        self._stopping = False
        self._exit_code = EXIT_OK

    def run(self) -> int:
        """Run until all is stopped; returns the exit code: 0, or 1 when a service had given up."""
        with self._runner:
            return self._runner.run(self._main())

    def update(self, programs: Sequence[Program]) -> None:
        """Run these from now on, in the place of those that wait for ``prepare``; may be called from any thread.

        Only slots whose program differs are restarted, only those that are new are started, and only those that are
        gone are stopped.
        """
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._update, programs)

    async def _main(self) -> int:
        self._done = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup lets it be ignored. Shells do the same with SIGINT for what scripts run in the background, and
            # whoever sends that one to us means it.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._loop.add_signal_handler(number, self._on_signal, number)
        self._guard = Guard(self._loop, lambda: self._console.say("the guardian had ended: started again", "warning"))
        self._gate = Gate(self._prepare, self._on_gate, self._on_refused)
        for name in self._slots:
            self._feed(name, Start())
        self._advance()
        await self._done.wait()
        self._gate.close()
        self._guard.close()
        return self._exit_code

    # Events in.

    def _feed(self, name: str, event: Event) -> None:
        before = self._slots[name]
        slot, actions = step(before, event, time.monotonic())
        self._slots[name] = slot
        self._set_timer(slot)
        told = report(before, slot, time.monotonic()) if slot.state is not before.state else None
        if told is not None:
            self._console.say(*told)
        for action in actions:
            self._perform(name, action)

    def _perform(self, name: str, action: Action) -> None:
        if action is Action.SPAWN:
            self._spawn(name)
        elif name in self._children and action is Action.TERMINATE:
            self._children[name].terminate()
        elif name in self._children:
            self._console.say(f"{name} {self._slots[name].why}: killed", "warning")
            self._children[name].kill()

    def _set_timer(self, slot: Slot) -> None:
        timer = self._timers.pop(slot.name, None)
        if timer is not None:
            timer.cancel()
        if slot.deadline is not None:
            delay = max(0.0, slot.deadline - time.monotonic())
            self._timers[slot.name] = self._loop.call_later(delay, self._on_timer, slot.name)

    def _on_timer(self, name: str) -> None:
        self._feed(name, Tick())
        self._advance()

    def _advance(self) -> None:
        """Let those go that have what they wait for; end when everything has ended."""
        if self._stopping:
            self._advance_stop()
            return
        services = [slot for name, slot in self._slots.items() if self._programs[name].after_prepare]
        if services and all(slot.state is State.FATAL for slot in services):
            self._stop_all("every service was given up", EXIT_FAILURE)
            return
        needs_gate = [name for name, program in self._programs.items() if program.after_prepare]
        for name, slot in self._slots.items():
            if slot.state is State.WAITING and (self._gate.is_open or name not in needs_gate):
                self._feed(name, Go())
        before_gate = [slot for name, slot in self._slots.items() if name not in needs_gate]
        if all(slot.state is State.RUNNING for slot in before_gate):
            self._gate.ensure()
        elif any(slot.state is State.FATAL for slot in before_gate):
            self._stop_all("what the services need could not be started", EXIT_FAILURE)

    # Changing what runs.

    def _update(self, programs: Sequence[Program]) -> None:
        if self._stopping:
            return
        new = {program.slot: program for program in programs}
        old = {name: program for name, program in self._programs.items() if program.after_prepare}
        for name in old.keys() - new.keys():
            self._leaving.add(name)
            self._feed(name, Stop())
        for name, program in new.items():
            is_back = name in self._leaving
            self._leaving.discard(name)
            self._programs[name] = program
            if name not in self._slots:
                self._slots[name] = Slot(name, program.policy)
                self._feed(name, Start())
            elif is_back or program != old.get(name):
                self._console.say(f"{name}: restarting with what changed")
                # In place of what stops now, or at once where nothing runs.
                self._feed(name, Stop())
                self._feed(name, Start())
        self._forget_gone()
        self._advance()

    def _forget_gone(self) -> None:
        for name in [one for one in self._leaving if self._slots[one].state is State.STOPPED]:
            self._leaving.discard(name)
            self._announced.discard(name)
            del self._slots[name], self._programs[name]

    # Stopping: first the services, then what they needed.

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stopping:
            if time.monotonic() - self._stopping_since < SAME_KEY_PRESS:
                return
            self._console.say("stopping at once")
            for child in self._children.values():
                child.kill()
            return
        given_up = [slot for slot in self._slots.values() if slot.state is State.FATAL]
        self._stop_all(f"{signal.Signals(number).name} received", EXIT_FAILURE if given_up else EXIT_OK)

    def _stop_all(self, why: str, exit_code: int) -> None:
        if self._stopping:
            return
        self._stopping, self._exit_code = True, exit_code
        self._stopping_since = time.monotonic()
        self._gate.close()
        self._console.say(f"stopping: {why}")
        for name, program in self._programs.items():
            if program.after_prepare:
                self._feed(name, Stop())
        self._advance()

    def _advance_stop(self) -> None:
        services = [slot for name, slot in self._slots.items() if self._programs[name].after_prepare]
        if any(slot.pid is not None for slot in services):
            return
        for name, slot in self._slots.items():
            if slot.state is not State.STOPPED:
                self._feed(name, Stop())
        if all(slot.state is State.STOPPED for slot in self._slots.values()) and not self._done.is_set():
            self._console.say("stopped")
            self._done.set()

    # The gate.

    def _on_gate(self) -> None:
        if not self._stopping and not self._gate.is_open:
            waiting = [name for name, slot in self._slots.items() if slot.state is State.WAITING]
            if waiting and self._said_waiting != self._gate.reason:
                self._console.say(f"{', '.join(waiting)} WAITING for the broker: {self._gate.reason}", "warning")
            self._said_waiting = self._gate.reason
        else:
            self._said_waiting = self._said_refused = ""
            self._advance()

    def _on_refused(self, error: RunnerError) -> None:
        if self._said_refused != str(error):
            self._said_refused = str(error)
            for line in str(error).splitlines():
                self._console.say(line, "error")
        never_started = all(
            slot.restarts == 0 and slot.pid is None
            for name, slot in self._slots.items()
            if self._programs[name].after_prepare
        )
        if never_started:
            self._stop_all("the topology cannot be declared", error.exit_code)

    # Processes.

    def _spawn(self, name: str) -> None:
        program = self._programs[name]
        on_word, on_line = partial(self._on_word, name), partial(self._console.child, name)
        on_exit = partial(self._on_exit, name, program)
        try:
            child = Child(self._loop, program, on_word, on_line, on_exit)
        except OSError as error:
            self._feed(name, SpawnFailed(f"{program.command[0]}: {error.strerror}", random.random()))
            return
        self._children[name] = child
        self._announced.discard(name)
        self._guard.add(child.pid)
        self._feed(name, Spawned(child.pid))

    def _on_exit(self, name: str, program: Program, code: int) -> None:
        self._guard.remove(self._children.pop(name).pid)
        self._feed(name, Exited(code, random.random()))
        self._forget_gone()
        if not self._stopping and not program.after_prepare:
            self._gate.shut(f"{name}")
        elif not self._stopping and code == EXIT_BROKER:
            self._gate.invalidate(f"{name} found the broker away or without its topology")
        self._advance()

    def _on_word(self, name: str, line: bytes) -> None:
        key, _, value = line.decode("utf-8", "replace").partition("=")
        if key == "READY" and value == "1":
            self._feed(name, Ready())
            self._advance()
        elif key == "STATUS" and self._slots[name].state is State.RUNNING and name not in self._announced:
            self._announced.add(name)
            self._console.say(f"{name} RUNNING, pid {self._slots[name].pid}: {value}")
            if not self._was_complete and self._announced == self._slots.keys():
                self._was_complete = True
                self._console.say("everything is RUNNING; Ctrl-C stops it")
