"""A service with its slots, and its transition to the wanted program and number of instances."""

from __future__ import annotations

from collections.abc import Sequence

from runner.errors import EXIT_BROKER
from runner.invocation import invocation
from runner.supervisor.crash_blame import CrashTracker
from runner.supervisor.program import Program
from runner.supervisor.rollout import Move, Seat, Step, next_step
from runner.supervisor.slot_keeper import Keeper, Means
from runner.supervisor.slot_lifecycle import SlotState
from runner.supervisor.transition_report import Role


class Service:
    """A program that runs in a number of slots. Both the program and the number of slots can change at any time."""

    def __init__(self, means: Means, program: Program) -> None:
        self._means, self._crashes = means, CrashTracker(program.service, means.journal.say)
        self.program = program
        #: The number of slots that the service should have.
        self.instances = self._instances_before = program.instances
        self.is_wanted = True
        #: The slots, by number.
        self.keepers: dict[int, Keeper] = {}
        self._incoming: Keeper | None = None
        self._leaving: list[Keeper] = []
        #: The reason why the last replacement failed, or an empty text if it succeeded.
        self.problem = ""
        #: True while processes of the new program are being replaced with processes of the old program.
        self._is_going_back = False
        #: True if the return to the old program has failed too. In that case, all processes keep their programs until
        #: the next request.
        self._is_paused = False

    @property
    def name(self) -> str:
        """The name of the service."""
        return self.program.service

    def all_keepers(self) -> list[Keeper]:
        """Return the keepers of the slots in order, followed by keepers of processes that replace or leave a slot."""
        seated = [self.keepers[number] for number in sorted(self.keepers)]
        return [*seated, *([self._incoming] if self._incoming else []), *self._leaving]

    @property
    def has_process(self) -> bool:
        """True if any process of the service is running."""
        return any(keeper.child is not None for keeper in self.all_keepers())

    @property
    def is_ready(self) -> bool:
        """True if services that depend on this service may start.

        Dependent services may start if an instance is ready or has exited with status 0, or if the service has no
        instances.
        """
        if self.instances == 0 and self.is_wanted:
            return True
        slots = [keeper.slot for keeper in self.keepers.values()]
        return any(
            one.state is SlotState.RUNNING or (one.state is SlotState.EXITED and one.last_exit == 0) for one in slots
        )

    @property
    def is_failing(self) -> bool:
        """True if any slot is in BACKOFF or FATAL."""
        return any(keeper.slot.state in (SlotState.BACKOFF, SlotState.FATAL) for keeper in self.keepers.values())

    @property
    def is_given_up(self) -> bool:
        """True if any slot is FATAL and is not being replaced."""
        coming = self._incoming.number if self._incoming is not None else None
        return any(one.slot.state is SlotState.FATAL for number, one in self.keepers.items() if number != coming)

    @property
    def is_idle(self) -> bool:
        """True if no process of the service is running or needed."""
        return all(keeper.is_over for keeper in self.all_keepers())

    @property
    def is_waiting(self) -> bool:
        """True if a replacement process must wait before it can start."""
        return self._incoming is not None and self._incoming.slot.state is SlotState.WAITING

    @property
    def is_settled(self) -> bool:
        """True if no process is being replaced or removed and no step is due."""
        return self._incoming is None and not self._leaving and self._next() is None

    def is_current(self, keeper: Keeper) -> bool:
        """Return True if a keeper's process is running the desired program."""
        return not keeper.is_stale and keeper.program.is_same_process(self.program)

    def run(self, program: Program) -> None:
        """Change the service to another program."""
        scale, before, self._instances_before = program.autoscale, self.program, self.instances
        if scale is not None and before.autoscale is not None:
            self.instances = max(scale.min, min(scale.max, self.instances))
        elif program.instances != before.instances or (scale is None) != (before.autoscale is None):
            self.instances = program.instances  # a number that ``scale`` has set is kept until the file changes
        self._resume()
        self.program = program
        for keeper in self.keepers.values():
            if self.is_current(keeper):
                keeper.run(program)
            if keeper.slot.state is SlotState.FATAL:
                keeper.start()  # the change may have fixed the cause of the failures

    def start(self, keepers: Sequence[Keeper] | None = None) -> None:
        """Start the processes of the given slots, or of all slots by default."""
        self._resume()
        self.is_wanted = True
        for keeper in list(self.keepers.values()) if keepers is None else keepers:
            keeper.start()

    def stop(self) -> None:
        """Stop the processes of all slots, beginning with the last slot."""
        self.is_wanted = False
        for keeper in reversed(self.all_keepers()):
            keeper.stop()

    def replace(self, keeper: Keeper) -> None:
        """Replace the process of a slot with a new process."""
        self._resume()
        keeper.is_stale = True

    def _resume(self) -> None:
        self.problem, self._is_going_back, self._is_paused = "", False, False

    def close(self) -> None:
        """Release the resources of a removed service."""
        self._crashes.file.close()

    def kill(self) -> None:
        """Kill all processes of the service."""
        for keeper in self.all_keepers():
            keeper.kill()

    def converge(self) -> None:
        """Take all possible steps towards the wanted program and number of instances."""
        self._leaving = [keeper for keeper in self._leaving if not keeper.is_over]
        while (step := self._next()) is not None:
            self._perform(step)

    def _next(self) -> Step | None:
        seats = [
            Seat(number, keeper.slot.state, self._is_paused or self.is_current(keeper), keeper.slot.wanted)
            for number, keeper in self.keepers.items()
        ]
        new = self._incoming
        incoming = None if new is None else Seat(new.number, _state_of(new), self._is_paused or self.is_current(new))
        leaving = [keeper.number for keeper in self._leaving]
        return next_step(self.instances, seats, incoming, leaving, beside=self.program.after_prepare)

    def _perform(self, step: Step) -> None:
        match step.move:
            case Move.ADD:
                keeper = self.keepers[step.number] = self._keeper(step.number)
                if self.is_wanted:
                    keeper.start()
            case Move.REMOVE:
                self._leave(self.keepers.pop(step.number))
            case Move.START_BESIDE:
                self._incoming = self._keeper(step.number)
                self._incoming.role = Role.FRESH
                self._means.journal.say(
                    f"{self._incoming.name}: starting a new process before stopping the old process"
                )
                self._incoming.start()
            case Move.PROMOTE if self._incoming is not None:
                old = self.keepers[step.number]
                old.role = Role.OLD
                old.give_way(self._incoming)
                self._leave(old)
                self._incoming.role = Role.HOLDER
                self.keepers[step.number], self._incoming = self._incoming, None
            case Move.ABANDON if self._incoming is not None:
                self._abandon(self._incoming)
            case Move.RESTART:
                keeper = self.keepers[step.number]
                if keeper.slot.wanted:
                    what = "" if keeper.is_stale else " with the changed program"
                    self._means.journal.say(f"{keeper.name}: restarting{what}")
                keeper.run(self.program)

    def _keeper(self, number: int) -> Keeper:
        return Keeper(self._means, self.program, f"{self.name}.{number}", self._crashes)

    def _leave(self, keeper: Keeper) -> None:
        keeper.stop()
        if not keeper.is_over:
            self._leaving.append(keeper)

    def _abandon(self, incoming: Keeper) -> None:
        self._incoming = None
        old = self.keepers.get(incoming.number)
        if old is not None and old.slot.wanted and self.is_current(incoming):
            why = incoming.slot.why or f"it is {incoming.slot.state}"
            self.problem = f"{incoming.name}: the new process did not become ready: {why}"
            if _is_healthy(old):
                self.problem = f"{self.problem}; the old process keeps running"
                # Processes of the new program are replaced with processes of the old program.
                self._is_paused, self._is_going_back = self._is_going_back, True
                if not old.program.is_same_process(self.program):
                    self.program, self.instances = old.program, self._instances_before
                for keeper in self.keepers.values():
                    keeper.is_stale = False
            self.problem += f"; see: {invocation('logs', self.name)}"
            self._means.journal.say(self.problem, "error")
        self._leave(incoming)


def _state_of(incoming: Keeper) -> SlotState:
    """Return the state of a new process. BACKOFF counts as STARTING if the process itself has not failed.

    For example, the broker was unreachable, or another process has killed the new process a few times.
    """
    slot = incoming.slot
    is_excused = slot.last_exit == EXIT_BROKER or slot.restarts < slot.policy.restart_limit.count
    return SlotState.STARTING if slot.state is SlotState.BACKOFF and not slot.failures and is_excused else slot.state


def _is_healthy(old: Keeper) -> bool:
    """Return True if the process is running or about to run."""
    slot = old.slot
    return slot.state in (SlotState.RUNNING, SlotState.STARTING, SlotState.WAITING) or (
        slot.state is SlotState.BACKOFF and not slot.failures
    )
