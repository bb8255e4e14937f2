"""What services wait for before they start or stop: the preparation, and the services that they depend on.

Services start after those they depend on are ready, and stop before those do.
"""

from __future__ import annotations

import asyncio
import random
import threading
import traceback
from collections.abc import Callable, Mapping

from runner.backoff import Backoff
from runner.errors import BrokerError, RunnerError
from runner.supervisor.service import Service
from runner.supervisor.slot_lifecycle import SlotState

#: The delays before the next preparation, in seconds.
RETRY_DELAYS = Backoff(0.2, max=5.0)


class Gate:
    """Open while ``prepare`` has succeeded, such as declaring the topology. A thread calls it until it does.

    ``invalidate`` closes the gate and tries again.
    """

    def __init__(
        self,
        prepare: Callable[[], None],
        on_change: Callable[[], None],
        on_refused: Callable[[RunnerError], None],
    ) -> None:
        self._prepare, self._on_change, self._on_refused = prepare, on_change, on_refused
        self._loop = asyncio.get_running_loop()
        self._attempt = 0
        self._is_closed = False
        #: Counts what made an earlier preparation worthless; a result that began before is not believed.
        self._generation = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_trying = False
        self.is_open = False
        #: Why it is closed.
        self.reason = "the broker"

    def invalidate(self, reason: str) -> None:
        """What was prepared may be gone: close, and try at once."""
        self.shut(reason)
        self.ensure()

    def ensure(self) -> None:
        """Try, unless it is open or a try is under way or due."""
        if not self.is_open and not self._is_trying and self._timer is None:
            self._attempt = 0
            self._try()

    def shut(self, reason: str) -> None:
        """What was prepared is gone, and there is nothing to prepare for now."""
        self.is_open = False
        self.reason = reason
        self._generation += 1

    def close(self) -> None:
        """Try no more."""
        self.is_open = False
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _try(self) -> None:
        self._timer = None
        self._is_trying = True
        self._began = self._generation
        # A daemon thread of its own, because asyncio waits for those of its pool before it lets the process end.
        threading.Thread(target=self._work, name="prepare", daemon=True).start()

    def _work(self) -> None:
        error: RunnerError | None = None
        try:
            self._prepare()
        except RunnerError as caught:
            error = caught
        except Exception as caught:  # noqa: BLE001 - the loop is told of it as of any other failure
            # A bug of ours; it keeps its traceback.
            error = RunnerError("".join(traceback.format_exception(caught)).rstrip())
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._done, error)

    def _done(self, error: RunnerError | None) -> None:
        self._is_trying = False
        if self._is_closed:
            return
        if error is None and self._began != self._generation:
            self._try()
            return
        if error is None:
            self.is_open = True
            self.reason = ""
        else:
            self.reason = str(error).splitlines()[0]
            if not isinstance(error, BrokerError):
                self._on_refused(error)
            self._attempt += 1
            self._timer = self._loop.call_later(RETRY_DELAYS.delay(self._attempt, random.random()), self._try)
        self._on_change()


def waits_for(service: Service, services: Mapping[str, Service]) -> str:
    """What a service still waits for, in words; empty when nothing. What does not run here is not waited for."""
    missing = [services[name] for name in service.program.depends_on if name in services]
    return ", ".join(f"{one.name}, which is {_state(one)}" for one in missing if not one.is_ready)


def may_stop(service: Service, services: Mapping[str, Service]) -> bool:
    """Whether nothing that runs depends on it any more."""
    dependents = [one for one in services.values() if service.name in one.program.depends_on]
    return not any(one.has_process for one in dependents)


def verdict(services: Mapping[str, Service], *, is_open: bool) -> tuple[str, bool] | None:
    """Why nothing will ever run again, and whether that is a failure; None while something may.

    ``is_open`` tells that a slot that waits only waits for another service.
    """
    slots = [keeper.slot for service in services.values() for keeper in service.everyone()]
    ended = [one for one in slots if one.state in (SlotState.EXITED, SlotState.FATAL)]
    rest = [one for one in slots if one not in ended]
    # One that follows its queues may have no instances for now.
    may_come = any(not service.instances and service.program.autoscale for service in services.values())
    if may_come or not ended or not all(one.state is SlotState.WAITING and is_open for one in rest):
        return None
    if any(one.state is SlotState.FATAL for one in ended):
        every = all(one.state is SlotState.FATAL for one in ended) and not rest
        return ("every service was given up" if every else "nothing is left that runs"), True
    return "every service has ended", bool(rest) or any(one.last_exit != 0 for one in ended)


def _state(service: Service) -> str:
    states = [keeper.slot.state for keeper in service.everyone()]
    return str(states[0]) if states else "not started"
