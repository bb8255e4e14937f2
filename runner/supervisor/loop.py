"""The supervisor's loop, which starts, restarts, updates and stops services in the order of their dependencies."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable, Sequence

from runner.errors import EXIT_BROKER, EXIT_FAILURE, EXIT_OK, RunnerError
from runner.supervisor.after_update import AfterUpdate
from runner.supervisor.live_steps import LiveSteps
from runner.supervisor.output.journal import Journal
from runner.supervisor.processes.guard import Guard
from runner.supervisor.processes.listener import Listeners
from runner.supervisor.processes.orphan import Orphans
from runner.supervisor.program import Program, differences
from runner.supervisor.service import Service
from runner.supervisor.signals import Signals
from runner.supervisor.slot_keeper import Keeper, Means
from runner.supervisor.slot_lifecycle import SlotState
from runner.supervisor.start_gate import Gate, may_stop, verdict, waits_for
from runner.supervisor.timeline import Timeline
from runner.supervisor.transition_report import Listener, Transition, words


class Supervisor:
    """The supervisor, which runs all programs until SIGTERM or SIGINT. A second signal kills all processes."""

    def __init__(
        self,
        programs: Sequence[Program],
        prepare: Callable[[], None],
        journal: Journal,
        listeners: Sequence[Listener] = (),
        *,
        exits_on_fatal: bool = False,
    ) -> None:
        self._runner = asyncio.Runner()
        self.loop = self._runner.get_loop()
        self.journal = journal
        self._programs, self._prepare = programs, prepare
        self.timeline, self.steps = Timeline(), LiveSteps()
        self._listeners = [self._report, self.timeline.add_transition, *listeners]
        self._exits_on_fatal = exits_on_fatal
        self.services: dict[str, Service] = {}
        self.after_update = AfterUpdate(self.loop, self.advance)
        #: The names of removed services whose processes have not all exited.
        self._leaving: set[str] = set()
        self._extras: list[Callable[[], Callable[[], None]]] = []
        self._changed: asyncio.Future[None] | None = None
        #: The last log lines about the gate, kept so that they are not repeated.
        self._said_waiting = self._said_refused = ""
        self._was_complete = False
        self.is_stopping = False
        self._exit_code = EXIT_OK
        #: The function to call on SIGHUP, or None if there are no files to reload.
        self.on_hangup: Callable[[], None] | None = None
        self.started_at = time.monotonic()

    def run(self) -> int:
        """Run until all processes have stopped. Return the exit code, for example 1 if a service is FATAL."""
        with self._runner:
            return self._runner.run(self._main())

    def attach(self, begin: Callable[[], Callable[[], None]]) -> None:
        """Call ``begin`` when the loop starts. Call the returned function when all processes have stopped."""
        self._extras.append(begin)

    def update(self, programs: Sequence[Program], then: Callable[[], None] | None = None) -> None:
        """Replace all programs that wait for ``prepare`` with the given programs. Any thread may call this method.

        When all processes of older programs have exited, ``then`` is called on a separate thread. If a replacement does
        not become ready, the old process keeps running and ``then`` is not called.
        """
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._update, programs, then)

    async def changed(self) -> None:
        """Wait until any slot changes its state."""
        if self._changed is None:
            self._changed = self.loop.create_future()
        await asyncio.shield(self._changed)  # other tasks may await the same future

    def keepers(self) -> list[Keeper]:
        """Return the keepers of all processes, including processes that replace or leave a slot."""
        return [keeper for service in self.services.values() for keeper in service.all_keepers()]

    def waiting_for(self, service: Service) -> str:
        """Return the reason why the slots of a service are WAITING."""
        if service.program.after_prepare and not self._gate.is_open:
            return self._gate.reason
        return waits_for(service, self.services)

    async def _main(self) -> int:
        self._done = asyncio.Event()
        self._signals = Signals(self.loop, self.stop_as_asked, self._kill, self.on_hangup)
        mark = f"{uuid.uuid4().hex}."
        say = self.journal.say
        self._guard = Guard(self.loop, mark, lambda: say("the guardian process exited and was restarted", "warning"))
        self._orphans = Orphans(self.loop, self._guard, self._live)
        self._gate = Gate(self._prepare, self._on_gate, self._on_refused)
        self._sockets = Listeners()
        self._means = Means(
            self.loop, self.journal, self._guard, self._sockets,
            self._on_transition, self.advance, self._on_exit, self.steps, self.timeline, mark, itertools.count(1),
        )  # fmt: skip
        endings = [begin() for begin in self._extras]
        for program in self._programs:
            self.services[program.service] = Service(self._means, program)
        self.advance()
        await self._done.wait()
        self._gate.close()
        if not await self._orphans.end():
            self.journal.say("some processes that services left behind could not be killed", "warning")
        for end in endings:
            end()
        self._sockets.close()
        for service in self.services.values():
            service.close()
        self._guard.close()
        return self._exit_code

    # Every event leads to a call of ``advance``.

    def advance(self) -> None:
        """Take all steps that are currently possible. When all processes have stopped, let ``run`` return."""
        for name in list(self.services):
            service = self.services[name]
            service.converge()
            if name in self._leaving and not service.all_keepers():
                self._leaving.discard(name)
                self.services.pop(name).close()
                self.steps.forget(name)
        if self.is_stopping:
            self._advance_stop()
        else:
            self._advance_start()
            self.after_update.advance(self.services.values())
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
        self._changed = None

    def _advance_start(self) -> None:
        for service in list(self.services.values()):
            is_free = not service.program.after_prepare or self._gate.is_open
            waiting = [keeper for keeper in service.all_keepers() if keeper.slot.state is SlotState.WAITING]
            if waiting and is_free and not waits_for(service, self.services):
                for keeper in waiting:
                    keeper.go()
        needed = [one for one in self.services.values() if not one.program.after_prepare]
        others = {name: one for name, one in self.services.items() if one.program.after_prepare}
        if any(one.is_given_up and not one.is_ready for one in needed):
            self.stop("the broker could not be started", EXIT_FAILURE)
        elif self._exits_on_fatal and any(one.is_given_up for one in self.services.values()):
            self.stop("the supervisor gave up on a service", EXIT_FAILURE)
        elif (end := verdict(others, is_open=self._gate.is_open)) is not None:
            self.stop(end[0], EXIT_FAILURE if end[1] else EXIT_OK)
        elif all(one.is_ready for one in needed):
            self._gate.ensure()
        wanted = [keeper for keeper in self.keepers() if keeper.slot.wanted]
        is_complete = all(_is_at_work(keeper) for keeper in wanted)
        if wanted and is_complete and not self._was_complete and not self.is_stopping:
            self._was_complete = True
            self.journal.say("everything is RUNNING; press Ctrl-C to stop")

    def _advance_stop(self) -> None:
        services = {name: one for name, one in self.services.items() if one.program.after_prepare}
        for service in reversed(services.values()):
            if not service.is_idle and may_stop(service, services):
                service.stop()
        if any(one.has_process for one in services.values()):
            return
        for service in self.services.values():
            service.stop()
        if not any(one.has_process for one in self.services.values()) and not self._done.is_set():
            self.journal.say("stopped")
            self._done.set()

    def _update(self, programs: Sequence[Program], then: Callable[[], None] | None = None) -> None:
        if self.is_stopping:
            return
        new = {program.service: program for program in programs}
        self.after_update.set(then, new)
        old = {name: one.program for name, one in self.services.items() if one.program.after_prepare}
        changes = differences(old, new)
        self.journal.say(f"services: {changes}")
        if changes != "no change":
            self.timeline.add("reloaded", "services", changes)
        for name, service in self.services.items():
            if name not in new and service.program.after_prepare:
                self._leaving.add(name)
                self._sockets.release(name)
                service.stop()
                service.instances = 0
        for name, program in new.items():
            if name not in self.services:
                self.services[name] = Service(self._means, program)
            elif name in self._leaving:
                self._leaving.discard(name)
                self.services[name].run(program)
                self.services[name].instances = program.instances
                self.services[name].start()
            else:
                self.services[name].run(program)
        self.advance()

    def stop(self, why: str, exit_code: int) -> None:
        """Stop all processes, and let ``run`` return ``exit_code``."""
        if self.is_stopping:
            return
        self.is_stopping, self._exit_code = True, exit_code
        self._signals.stopping()
        self._gate.close()
        self.journal.say(f"stopping: {why}")
        self.loop.call_soon(self.advance)

    def stop_as_asked(self, why: str) -> None:
        """Stop all processes on request. The exit code is 1 if a slot is FATAL, or EXITED after a failure."""
        slots = [keeper.slot for keeper in self.keepers()]
        has_failed = any(
            one.state is SlotState.FATAL or (one.state is SlotState.EXITED and one.last_exit) for one in slots
        )
        self.stop(why, EXIT_FAILURE if has_failed else EXIT_OK)

    # Events.

    def _kill(self) -> None:
        self.journal.say("killing all processes")
        for service in self.services.values():
            service.stop()
            service.kill()

    def _on_transition(self, transition: Transition) -> None:
        for listener in self._listeners:
            listener(transition)

    def _report(self, transition: Transition) -> None:
        if (line := words(transition)) is not None:
            self.journal.say(*line)

    def _on_exit(self, keeper: Keeper, code: int) -> None:
        self._orphans.sweep(has_ended=True)
        if self.is_stopping:
            return
        if not keeper.program.after_prepare:
            self._gate.shut(keeper.name)
        elif code == EXIT_BROKER:
            self._gate.invalidate(
                f"{keeper.name} found that the broker is unreachable or part of the topology is missing"
            )

    def _live(self) -> dict[int, str]:
        children = [keeper.child for keeper in self.keepers() if keeper.child is not None]
        return {child.pid: child.instance for child in children}

    def _on_gate(self) -> None:
        if not self.is_stopping and not self._gate.is_open:
            waiting = [keeper.name for keeper in self.keepers() if keeper.slot.state is SlotState.WAITING]
            if waiting and self._said_waiting != self._gate.reason:
                self.journal.say(f"{', '.join(waiting)} WAITING for the broker: {self._gate.reason}", "warning")
                self._said_waiting = self._gate.reason
                self.timeline.add("broker", "broker", f"{', '.join(waiting)} WAITING: {self._gate.reason}")
        else:
            if self._said_waiting:
                self.timeline.add("broker", "broker", "the topology is declared, and services can start")
            self._said_waiting = self._said_refused = ""
            self.advance()

    def _on_refused(self, error: RunnerError) -> None:
        if self._said_refused != str(error):
            self._said_refused = str(error)
            for line in str(error).splitlines():
                self.journal.say(line, "error")
            self.timeline.add("broker", "broker", f"the topology cannot be declared: {error}")
        keepers = [keeper for keeper in self.keepers() if keeper.program.after_prepare]
        if all(keeper.slot.restarts == 0 and keeper.slot.pid is None for keeper in keepers):
            self.stop("the topology cannot be declared", error.exit_code)


def _is_at_work(keeper: Keeper) -> bool:
    return keeper.slot.state is SlotState.EXITED or (keeper.slot.state is SlotState.RUNNING and keeper.is_announced)
