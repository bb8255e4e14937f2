"""The thread that all connections of a process live on."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runner.amqp.pika_adapter import PikaLoop, chosen_connection

if TYPE_CHECKING:
    from runner.amqp.link import Link

log = logging.getLogger("runner.amqp")


class IoThread:
    """Runs pika's event loop; only this thread may touch a connection (pika's FAQ).

    Connections have their clock, their random numbers and their sockets from here, so that a simulation can replace it.
    """

    #: Seconds of the monotonic clock.
    clock = staticmethod(time.monotonic)
    random = random.Random()

    def __init__(self, on_crash: Callable[[], None]) -> None:
        self.loop: Any = PikaLoop(self._end_round)
        self._new_connection = chosen_connection()
        self._on_crash = on_crash
        self._is_stopped = False
        self._links: list[Link] = []
        self._round_ends: list[Callable[[], None]] = []
        #: Why no connection may be open for now, or None.
        self.cut: str | None = None
        self._thread = threading.Thread(target=self._run, name="amqp-io", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def call(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the thread soon, or never once it has stopped; may be called from any thread."""
        if not self._is_stopped:
            self.loop.add_callback_threadsafe(callback)

    def connect(self, parameters: Any, **callbacks: Callable[..., None]) -> Any:
        """Begin to open a connection on the thread, with the callbacks of ``pika.SelectConnection``. On the thread."""
        return self._new_connection(parameters, custom_ioloop=self.loop, **callbacks)

    def add(self, link: Link) -> None:
        """Note a link whose connections live on the thread."""
        self._links.append(link)

    def cut_off(self, reason: str | None) -> None:
        """Lose all connections without a goodbye, and open none until called with None. On the thread."""
        self.cut = reason
        if reason is not None:
            for link in self._links:
                link.drop(reason)

    def at_round_end(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called at the end of each round of the loop, once what was written is sent."""
        self._round_ends.append(callback)

    def _end_round(self) -> None:
        for callback in self._round_ends:
            callback()

    @property
    def is_stopped(self) -> bool:
        """Whether nothing runs on it any more."""
        return self._is_stopped

    def stop(self, timeout: float) -> None:
        """End the loop and wait for the thread, at most ``timeout`` seconds."""
        self.call(self.loop.stop)
        self._is_stopped = True
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self.loop.close()

    def _run(self) -> None:
        try:
            self.loop.start()
        except Exception:
            log.exception("the AMQP thread ended by an error of its own")
            self._is_stopped = True
            self._on_crash()
