"""What is looked at now and then: how much memory instances take, and how many are needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from runner.errors import RunnerError
from runner.supervisor.autoscale import Trend, follow
from runner.supervisor.loop import Supervisor
from runner.supervisor.processes.usage import Sampler, resident
from runner.supervisor.service import Service
from runner.supervisor.slot_lifecycle import SlotState

#: Seconds between two looks at the processes, and at the queues where a service follows them.
LOOK, POLL = 5.0, 1.0
#: Seconds between two looks at what has a ``memory_max``, and how many times as much ends it at once.
GLANCE, FAR_TOO_MUCH = 0.25, 2
#: Seconds between two replacements of the same slot for its memory.
PAUSE = 30.0

#: The ready messages of a service's queues. Raises RunnerError where the broker does not tell.
Depth = Callable[[str], int]


class Upkeep:
    """Keeps instances within ``memory_max``, and their number at what ``autoscale`` asks for."""

    def __init__(self, supervisor: Supervisor, sampler: Sampler, depth: Depth) -> None:
        self._supervisor, self._sampler, self._depth = supervisor, sampler, depth
        self._trends: dict[str, Trend] = {}
        self._is_asking = self._is_over = self._is_glancing = False
        #: When a slot was last replaced for its memory, or that was tried.
        self._replaced: dict[str, float] = {}

    def begin(self) -> Callable[[], None]:
        """Look from now on; returns what ends it."""
        self._look()
        self._poll()
        return self._end

    def _end(self) -> None:
        self._is_over = True

    def _look(self) -> None:
        if self._is_over:
            return
        self._supervisor.loop.call_later(LOOK, self._look)
        children = [keeper.child for keeper in self._supervisor.keepers() if keeper.child is not None]
        self._sampler.look({child.pid: child.counts() for child in children}, time.monotonic())
        for service in self._supervisor.services.values():
            if service.program.limits.memory_max is not None and not self._supervisor.is_stopping:
                self._limit(service, service.program.limits.memory_max)

    def _glance(self) -> None:
        """End at once what grows faster than a fresh process could take its place; while anything has a limit."""
        keepers = [one for one in self._supervisor.keepers() if one.program.limits.memory_max is not None]
        self._is_glancing = bool(keepers) and not self._is_over
        if not self._is_glancing:
            return
        self._supervisor.loop.call_later(GLANCE, self._glance)
        for keeper in keepers:
            most, slot = keeper.program.limits.memory_max, keeper.slot
            if most is None or slot.pid is None or keeper.is_condemned:
                continue
            if (taken := resident(slot.pid)) > FAR_TOO_MUCH * most:
                keeper.outgrown(f"took {taken / 2**20:.0f} MiB, far over its memory_max of {most / 2**20:.0f} MiB")

    def _limit(self, service: Service, most: int) -> None:
        for keeper in list(service.keepers.values()):
            now = time.monotonic()
            is_due = now - self._replaced.get(keeper.name, -PAUSE) >= PAUSE
            is_ready = keeper.slot.state is SlotState.RUNNING and service.is_settled
            if is_due and is_ready and (taken := resident(keeper.slot.pid or 0)) > most:
                self._replaced[keeper.name] = now
                text = f"{keeper.name} takes {taken / 2**20:.0f} MiB, over its memory_max of {most / 2**20:.0f} MiB"
                self._supervisor.journal.say(f"{text}: a fresh one takes its place", "warning")
                service.replace(keeper)
        self._supervisor.advance()

    def _poll(self) -> None:
        if self._is_over:
            return
        self._supervisor.loop.call_later(POLL, self._poll)
        if not self._is_glancing:
            self._glance()
        names = [name for name, one in self._supervisor.services.items() if one.program.autoscale and one.is_wanted]
        if names and not self._is_asking and not self._supervisor.is_stopping:
            self._is_asking = True
            threading.Thread(target=self._ask, args=(names,), name="depth", daemon=True).start()

    def _ask(self, names: list[str]) -> None:
        found: dict[str, int] = {}
        for name in names:
            try:
                found[name] = self._depth(name)
            except RunnerError:
                continue  # while the broker is away nothing is known, and nothing changes
            except Exception as error:  # noqa: BLE001 - a bug of ours must not be the last question for good
                self._supervisor.journal.say(f"autoscale of {name}: {type(error).__name__}: {error}", "error")
        if not self._supervisor.loop.is_closed():
            self._supervisor.loop.call_soon_threadsafe(self._answered, found)

    def _answered(self, found: dict[str, int]) -> None:
        self._is_asking = False
        self._trends = {name: trend for name, trend in self._trends.items() if name in found}
        for name, ready in found.items():
            service = self._supervisor.services.get(name)
            if service is not None and not self._supervisor.is_stopping:
                self._scale(service, ready)

    def _scale(self, service: Service, ready: int) -> None:
        settings = service.program.autoscale
        if settings is None or not service.is_wanted:
            return
        if service.is_failing or not service.is_settled:
            self._trends.pop(service.name, None)  # more of what fails is no help; and one change at a time
            return
        trend, before = self._trends.get(service.name, Trend()), service.instances
        self._trends[service.name], service.instances = follow(settings, trend, before, ready, time.monotonic())
        if service.instances != before:
            direction, pace = ("up", settings.up) if service.instances > before else ("down", settings.down)
            why = f"{ready} ready messages, {settings.messages_per_instance} for each, for {pace:g} s"
            self._supervisor.journal.say(
                f"{service.name} scaled {direction} from {before} to {service.instances}: {why}"
            )
            self._supervisor.advance()
