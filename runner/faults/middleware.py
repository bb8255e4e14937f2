"""The injected faults in a worker: crashing messages, slow handlers, and a disconnected broker."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runner.faults.active import INTERVAL, FaultFolder
from runner.headers import FAULT
from runner.messages import Message

if TYPE_CHECKING:
    from runner.amqp.io_thread import IoThread
    from runner.worker.delivery import DeliveryEvent, DeliveryLifecycle
    from runner.worker.handler import Handler

#: The value of the ``FAULT`` header in a message that must crash its worker.
KILL = "kill"


class InjectedFaults:
    """The injected faults of one worker. Only a worker with ``fault_injection: true`` has this object."""

    def __init__(self, var: Path, service: str) -> None:
        self._folder, self._service = FaultFolder(var), service

    def around(self, handler: Handler) -> Handler:
        """Return a handler that injects the active faults before each message."""

        def faulty(one: DeliveryLifecycle) -> DeliveryEvent:
            self.before(one.message)
            return handler(one)

        return faulty

    def before(self, message: Message) -> None:
        """Crash the worker if a header requires a crash, or wait for the delay of ``slow``.

        Call this method on a handler thread.
        """
        if message.headers.get(FAULT) == KILL:
            # The signal stops this thread immediately, so the handler cannot start.
            signal.raise_signal(signal.SIGSEGV)
        deadline: float | None = None
        while (slow := self._folder.read(f"slow.{self._service}")) is not None:
            now = time.monotonic()
            deadline = now + slow.delay if deadline is None else deadline
            if now >= deadline:
                break
            time.sleep(min(INTERVAL, deadline - now))

    def disconnect_reason(self) -> str | None:
        """Return the reason why the worker must not be connected to the broker, or None if it may be connected."""
        found = [self._folder.read(name) for name in ("disconnect", f"disconnect.{self._service}")]
        last = max((one for one in found if one is not None), key=lambda one: one.until, default=None)
        return f"disconnected on purpose until {last.clock}" if last is not None else None

    def watch(self, io: IoThread) -> None:
        """Start a periodic check that disconnects and reconnects the worker as faults require.

        The first check precedes all other work on the thread.
        """
        io.call(partial(self._check, io))

    def _check(self, io: IoThread) -> None:
        reason = self.disconnect_reason()
        if (reason is None) != (io.cut is None):
            io.cut_off(reason)
        io.loop.call_later(INTERVAL, partial(self._check, io))
