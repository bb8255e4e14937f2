"""The order in which services start and stop.

A service starts after preparation and after its dependencies, and stops before its dependencies.
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

#: The delays before another attempt at preparation, in seconds.
RETRY_DELAYS = Backoff(0.2, max=5.0)


class Gate:
    """The gate for the start of services, which opens when ``prepare`` succeeds.

    A thread calls ``prepare`` until the call succeeds. ``invalidate`` closes the gate, and calls ``prepare`` again.
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
        #: The number of times the gate was shut. If the gate is shut during a preparation, the preparation is repeated.
        self._generation = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_preparing = False
        self.is_open = False
        #: The reason why the gate is closed, or an empty text if the gate is open.
        self.reason = "the broker"

    def invalidate(self, reason: str) -> None:
        """Close the gate and restart preparation immediately. Called when the topology may be lost."""
        self.shut(reason)
        self.ensure()

    def ensure(self) -> None:
        """Start preparation, unless the gate is open or preparation is already in progress or scheduled."""
        if not self.is_open and not self._is_preparing and self._timer is None:
            self._attempt = 0
            self._start()

    def shut(self, reason: str) -> None:
        """Close the gate until preparation succeeds again. Called when the topology is lost."""
        self.is_open = False
        self.reason = reason
        self._generation += 1

    def close(self) -> None:
        """Close the gate permanently."""
        self.is_open = False
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _start(self) -> None:
        self._timer = None
        self._is_preparing = True
        self._began = self._generation
        # At exit, asyncio waits for the threads of its pool, but not for a daemon thread.
        threading.Thread(target=self._work, name="prepare", daemon=True).start()

    def _work(self) -> None:
        error: RunnerError | None = None
        try:
            self._prepare()
        except RunnerError as caught:
            error = caught
        except Exception as caught:  # noqa: BLE001 - the loop reports this error like any other failure
            # An unexpected exception is a bug, so the report contains the traceback.
            error = RunnerError("".join(traceback.format_exception(caught)).rstrip())
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._done, error)

    def _done(self, error: RunnerError | None) -> None:
        self._is_preparing = False
        if self._is_closed:
            return
        if error is None and self._began != self._generation:
            self._start()
            return
        if error is None:
            self.is_open = True
            self.reason = ""
        else:
            self.reason = str(error).splitlines()[0]
            if not isinstance(error, BrokerError):
                self._on_refused(error)
            self._attempt += 1
            self._timer = self._loop.call_later(RETRY_DELAYS.delay(self._attempt, random.random()), self._start)
        self._on_change()


def waits_for(service: Service, services: Mapping[str, Service]) -> str:
    """Return a text that names the services for which a service waits, or an empty text if the service can start.

    A service does not wait for dependencies that this supervisor does not run.
    """
    missing = [services[name] for name in service.program.depends_on if name in services]
    return ", ".join(f"{one.name}, which is {_state(one)}" for one in missing if not one.is_ready)


def may_stop(service: Service, services: Mapping[str, Service]) -> bool:
    """Return True if no running process depends on this service."""
    dependents = [one for one in services.values() if service.name in one.program.depends_on]
    return not any(one.has_process for one in dependents)


def verdict(services: Mapping[str, Service], *, is_open: bool) -> tuple[str, bool] | None:
    """Return the reason why no process will ever run again, and whether the reason is a failure. Return None otherwise.

    If ``is_open`` is True, the gate is open, and WAITING slots only wait for other services.
    """
    slots = [keeper.slot for service in services.values() for keeper in service.all_keepers()]
    ended = [one for one in slots if one.state in (SlotState.EXITED, SlotState.FATAL)]
    rest = [one for one in slots if one not in ended]
    # A service with autoscaling may temporarily have no instances.
    may_come = any(not service.instances and service.program.autoscale for service in services.values())
    if may_come or not ended or not all(one.state is SlotState.WAITING and is_open for one in rest):
        return None
    if any(one.state is SlotState.FATAL for one in ended):
        every = all(one.state is SlotState.FATAL for one in ended) and not rest
        return ("the supervisor gave up on every service" if every else "no service can run any more"), True
    return "every service has exited", bool(rest) or any(one.last_exit != 0 for one in ended)


def _state(service: Service) -> str:
    states = [keeper.slot.state for keeper in service.all_keepers()]
    return str(states[0]) if states else "not started"
