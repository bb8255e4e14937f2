"""The periodic checks of each instance's memory, and of the number of instances that each service needs."""

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

#: Seconds between checks of all processes, and seconds between checks of the queues of services with ``autoscale``.
PROCESS_INTERVAL, QUEUE_INTERVAL = 5.0, 1.0
#: Seconds between memory checks of processes with a ``memory_max``.
MEMORY_INTERVAL = 0.25
#: The multiple of ``memory_max`` above which a process is killed immediately.
KILL_FACTOR = 2
#: The minimum time in seconds between two replacements of a slot because of memory use.
PAUSE = 30.0

#: A function that returns the number of ready messages in a service's queues. Raises RunnerError if no broker answers.
Depth = Callable[[str], int]


class Upkeep:
    """The checks that enforce ``memory_max``, and that scale the services for which ``autoscale`` is set."""

    def __init__(self, supervisor: Supervisor, sampler: Sampler, depth: Depth) -> None:
        self._supervisor, self._sampler, self._depth = supervisor, sampler, depth
        self._trends: dict[str, Trend] = {}
        self._is_asking = self._is_over = self._is_checking_memory = False
        #: The time of each slot's last replacement because of memory use.
        self._replaced: dict[str, float] = {}

    def begin(self) -> Callable[[], None]:
        """Start the periodic checks, and return a function that stops the checks."""
        self._check_processes()
        self._check_queues()
        return self._end

    def _end(self) -> None:
        self._is_over = True

    def _check_processes(self) -> None:
        if self._is_over:
            return
        self._supervisor.loop.call_later(PROCESS_INTERVAL, self._check_processes)
        children = [keeper.child for keeper in self._supervisor.keepers() if keeper.child is not None]
        self._sampler.sample({child.pid: child.counts() for child in children}, time.monotonic())
        for service in self._supervisor.services.values():
            if service.program.limits.memory_max is not None and not self._supervisor.is_stopping:
                self._limit(service, service.program.limits.memory_max)

    def _check_memory(self) -> None:
        """Kill processes far above their memory limit, because a replacement would take too long."""
        keepers = [one for one in self._supervisor.keepers() if one.program.limits.memory_max is not None]
        self._is_checking_memory = bool(keepers) and not self._is_over
        if not self._is_checking_memory:
            return
        self._supervisor.loop.call_later(MEMORY_INTERVAL, self._check_memory)
        for keeper in keepers:
            most, slot = keeper.program.limits.memory_max, keeper.slot
            if most is None or slot.pid is None or keeper.is_over_memory:
                continue
            if (used := resident(slot.pid)) > KILL_FACTOR * most:
                text = f"used {used / 2**20:.0f} MiB, more than {KILL_FACTOR} times its memory_max"
                keeper.kill_over_memory(f"{text} of {most / 2**20:.0f} MiB")

    def _limit(self, service: Service, most: int) -> None:
        for keeper in list(service.keepers.values()):
            now = time.monotonic()
            is_due = now - self._replaced.get(keeper.name, -PAUSE) >= PAUSE
            is_ready = keeper.slot.state is SlotState.RUNNING and service.is_settled
            if is_due and is_ready and (used := resident(keeper.slot.pid or 0)) > most:
                self._replaced[keeper.name] = now
                limit = f"more than its memory_max of {most / 2**20:.0f} MiB"
                text = f"{keeper.name} uses {used / 2**20:.0f} MiB, {limit}; replacing the process"
                self._supervisor.journal.say(text, "warning")
                self._supervisor.timeline.add("restarting", keeper.name, text.removeprefix(keeper.name).lstrip())
                service.replace(keeper)
        self._supervisor.advance()

    def _check_queues(self) -> None:
        if self._is_over:
            return
        self._supervisor.loop.call_later(QUEUE_INTERVAL, self._check_queues)
        if not self._is_checking_memory:
            self._check_memory()
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
                continue  # the number of instances does not change while the broker is unreachable
            except Exception as error:  # noqa: BLE001 - a bug must not stop autoscaling permanently
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
            # Do not add instances while instances fail, because they would fail too. Changes must not overlap.
            self._trends.pop(service.name, None)
            return
        trend, before = self._trends.get(service.name, Trend()), service.instances
        self._trends[service.name], service.instances = follow(settings, trend, before, ready, time.monotonic())
        if service.instances != before:
            direction, pace = ("up", settings.up) if service.instances > before else ("down", settings.down)
            change = f"scaled {direction} from {before} to {service.instances} after {pace:g} s"
            why = f"{ready} ready messages, {settings.messages_per_instance} per instance"
            self._supervisor.journal.say(f"{service.name} {change}: {why}")
            self._supervisor.timeline.add("scaled", service.name, f"{change}: {why}")
            self._supervisor.advance()
