"""Injected faults in a worker: messages that kill it, slow handlers, and a broker that is cut off."""

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

#: The value of the header ``FAULT`` in a message that ends its worker.
KILL = "kill"


class InjectedFaults:
    """The faults of one worker of a service, if ``faults`` is true."""

    def __init__(self, var: Path, service: str) -> None:
        self._folder, self._service = FaultFolder(var), service

    def around(self, handler: Handler) -> Handler:
        """Inject the faults before each message."""

        def faulty(one: DeliveryLifecycle) -> DeliveryEvent:
            self.before(one.message)
            return handler(one)

        return faulty

    def before(self, message: Message) -> None:
        """Kill the worker if the message says so, or wait while handlers are slow. On a handler thread."""
        if message.headers.get(FAULT) == KILL:
            # On this thread, so that the handler does not go on for even a moment.
            signal.raise_signal(signal.SIGSEGV)
        deadline: float | None = None
        while (slow := self._folder.read(f"slow.{self._service}")) is not None:
            now = time.monotonic()
            deadline = now + slow.delay if deadline is None else deadline
            if now >= deadline:
                break
            time.sleep(min(INTERVAL, deadline - now))

    def cut(self) -> str | None:
        """Why there is to be no connection to the broker now, or None."""
        found = [self._folder.read(name) for name in ("cut", f"cut.{self._service}")]
        last = max((one for one in found if one is not None), key=lambda one: one.until, default=None)
        return f"cut off on purpose until {last.clock}" if last is not None else None

    def watch(self, io: IoThread) -> None:
        """Look for a cut from now on, before all else that the thread does."""
        io.call(partial(self._look, io))

    def _look(self, io: IoThread) -> None:
        reason = self.cut()
        if (reason is None) != (io.cut is None):
            io.cut_off(reason)
        io.loop.call_later(INTERVAL, partial(self._look, io))
