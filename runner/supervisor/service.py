"""One service: its slots, and how they become what is wanted of it."""

from __future__ import annotations

from collections.abc import Sequence

from runner.errors import EXIT_BROKER
from runner.invocation import invocation
from runner.supervisor.crash_blame import Accusations
from runner.supervisor.program import Program
from runner.supervisor.rollout import Move, Seat, Step, next_step
from runner.supervisor.slot_keeper import Keeper, Means
from runner.supervisor.slot_lifecycle import SlotState
from runner.supervisor.transition_report import Role


class Service:
    """Runs a program in as many slots as are wanted; what is wanted may change at any time."""

    def __init__(self, means: Means, program: Program) -> None:
        self._means, self._dock = means, Accusations(program.service, means.journal.say)
        self.program = program
        #: How many slots it is to have.
        self.instances = self._instances_before = program.instances
        self.is_wanted = True
        #: The slots, by number.
        self.keepers: dict[int, Keeper] = {}
        self._incoming: Keeper | None = None
        self._leaving: list[Keeper] = []
        #: Why the last replacement was given up; empty where it was not.
        self.problem = ""
        #: Whether those that were replaced go back to what they were; and whether that failed too, so that all stay
        #: with what they are until something is asked for again.
        self._is_going_back = self._is_paused = False

    @property
    def name(self) -> str:
        """The service's name."""
        return self.program.service

    def everyone(self) -> list[Keeper]:
        """The slots in order, and the processes that come and go beside them."""
        seated = [self.keepers[number] for number in sorted(self.keepers)]
        return [*seated, *([self._incoming] if self._incoming else []), *self._leaving]

    @property
    def has_process(self) -> bool:
        """Whether anything of it still runs."""
        return any(keeper.child is not None for keeper in self.everyone())

    @property
    def is_ready(self) -> bool:
        """Whether others may rely on it.

        An instance is ready, or it did what it was to do and ended with 0, or it is to have no instances now.
        """
        if self.instances == 0 and self.is_wanted:
            return True
        slots = [keeper.slot for keeper in self.keepers.values()]
        return any(
            one.state is SlotState.RUNNING or (one.state is SlotState.EXITED and one.last_exit == 0) for one in slots
        )

    @property
    def is_failing(self) -> bool:
        """Whether any of its slots does not get to its work."""
        return any(keeper.slot.state in (SlotState.BACKOFF, SlotState.FATAL) for keeper in self.keepers.values())

    @property
    def is_given_up(self) -> bool:
        """Whether any of its slots was given up, and nothing is about to take its place."""
        coming = self._incoming.number if self._incoming is not None else None
        return any(one.slot.state is SlotState.FATAL for number, one in self.keepers.items() if number != coming)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it runs or is wanted."""
        return all(keeper.is_over for keeper in self.everyone())

    @property
    def is_waiting(self) -> bool:
        """Whether a fresh process waits for something before it can begin."""
        return self._incoming is not None and self._incoming.slot.state is SlotState.WAITING

    @property
    def is_settled(self) -> bool:
        """Whether nothing is on its way: nobody comes or goes, and every slot has its place."""
        return self._incoming is None and not self._leaving and self._next() is None

    def is_current(self, keeper: Keeper) -> bool:
        """Whether its process is what the service is to run."""
        return not keeper.is_stale and keeper.program.is_same_process(self.program)

    def run(self, program: Program) -> None:
        """Run another program from now on."""
        scale, before, self._instances_before = program.autoscale, self.program, self.instances
        if scale is not None and before.autoscale is not None:
            self.instances = max(scale.min, min(scale.max, self.instances))
        elif program.instances != before.instances or (scale is None) != (before.autoscale is None):
            self.instances = program.instances  # one that was set by hand stays while the file says the same
        self._resume()
        self.program = program
        for keeper in self.keepers.values():
            if self.is_current(keeper):
                keeper.run(program)
            if keeper.slot.state is SlotState.FATAL:
                keeper.start()  # what it needed may be there now

    def start(self, keepers: Sequence[Keeper] | None = None) -> None:
        """Fill these slots, or every one."""
        self._resume()
        self.is_wanted = True
        for keeper in list(self.keepers.values()) if keepers is None else keepers:
            keeper.start()

    def stop(self) -> None:
        """Empty every slot, the last one first."""
        self.is_wanted = False
        for keeper in reversed(self.everyone()):
            keeper.stop()

    def replace(self, keeper: Keeper) -> None:
        """Put a fresh process in the place of this one."""
        self._resume()
        keeper.is_stale = True

    def _resume(self) -> None:
        self.problem, self._is_going_back, self._is_paused = "", False, False

    def close(self) -> None:
        """It is no more."""
        self._dock.file.close()

    def kill(self) -> None:
        """End every process at once."""
        for keeper in self.everyone():
            keeper.kill()

    def converge(self) -> None:
        """Do what can be done now to become what is wanted."""
        self._leaving = [keeper for keeper in self._leaving if not keeper.is_over]
        while (step := self._next()) is not None:
            self._take(step)

    def _next(self) -> Step | None:
        seats = [
            Seat(number, keeper.slot.state, self._is_paused or self.is_current(keeper), keeper.slot.wanted)
            for number, keeper in self.keepers.items()
        ]
        new = self._incoming
        incoming = None if new is None else Seat(new.number, _state_of(new), self._is_paused or self.is_current(new))
        leaving = [keeper.number for keeper in self._leaving]
        return next_step(self.instances, seats, incoming, leaving, beside=self.program.after_prepare)

    def _take(self, step: Step) -> None:
        match step.move:
            case Move.ADD:
                keeper = self.keepers[step.number] = self._keeper(step.number)
                if self.is_wanted:
                    keeper.start()
            case Move.REMOVE:
                self._leave(self.keepers.pop(step.number))
            case Move.BRING:
                self._incoming = self._keeper(step.number)
                self._incoming.role = Role.FRESH
                self._means.journal.say(f"{self._incoming.name}: replacing it, the new one first")
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
                    what = "" if keeper.is_stale else " with what changed"
                    self._means.journal.say(f"{keeper.name}: restarting{what}")
                keeper.run(self.program)

    def _keeper(self, number: int) -> Keeper:
        return Keeper(self._means, self.program, f"{self.name}.{number}", self._dock)

    def _leave(self, keeper: Keeper) -> None:
        keeper.stop()
        if not keeper.is_over:
            self._leaving.append(keeper)

    def _abandon(self, incoming: Keeper) -> None:
        self._incoming = None
        old = self.keepers.get(incoming.number)
        if old is not None and old.slot.wanted and self.is_current(incoming):
            why = incoming.slot.why or f"it is {incoming.slot.state}"
            logs = invocation("logs", self.name)
            self.problem = f"{incoming.name}: the new one did not get ready, {why} ({logs})"
            if _is_healthy(old):
                self.problem += "; the old one runs on"
                # Those that were replaced before it go back to what the others are.
                self._is_paused, self._is_going_back = self._is_going_back, True
                if not old.program.is_same_process(self.program):
                    self.program, self.instances = old.program, self._instances_before
                for keeper in self.keepers.values():
                    keeper.is_stale = False
            self._means.journal.say(self.problem, "error")
        self._leave(incoming)


def _state_of(incoming: Keeper) -> SlotState:
    """A fresh process that only found the broker away, or was killed by somebody now and then, is still on its way."""
    slot = incoming.slot
    is_excused = slot.last_exit == EXIT_BROKER or slot.restarts < slot.policy.restart_limit.count
    return SlotState.STARTING if slot.state is SlotState.BACKOFF and not slot.failures and is_excused else slot.state


def _is_healthy(old: Keeper) -> bool:
    """Whether it works, or is about to."""
    slot = old.slot
    return slot.state in (SlotState.RUNNING, SlotState.STARTING, SlotState.WAITING) or (
        slot.state is SlotState.BACKOFF and not slot.failures
    )
