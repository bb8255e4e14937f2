"""The I/O thread, on which all AMQP connections of a process run."""

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
    """The thread that runs pika's event loop.

    Only this thread may use connections (pika: "Frequently Asked Questions"). Connections get their clock, random
    numbers and sockets from this class, so that a simulation can replace them.
    """

    #: The current monotonic time in seconds.
    clock = staticmethod(time.monotonic)
    random = random.Random()

    def __init__(self, on_crash: Callable[[], None]) -> None:
        self.loop: Any = PikaLoop(self._end_round)
        self._new_connection = chosen_connection()
        self._on_crash = on_crash
        self._is_stopped = False
        self._links: list[Link] = []
        self._round_ends: list[Callable[[], None]] = []
        #: The reason why all connections are cut off, or None if they are not.
        self.cut: str | None = None
        self._thread = threading.Thread(target=self._run, name="amqp-io", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def call(self, callback: Callable[[], None]) -> None:
        """Schedule ``callback`` on the I/O thread, unless the thread has stopped. Any thread may call this method."""
        if not self._is_stopped:
            self.loop.add_callback_threadsafe(callback)

    def connect(self, parameters: Any, **callbacks: Callable[..., None]) -> Any:
        """Start opening a connection with the given callbacks for ``pika.SelectConnection``.

        Call this method on the I/O thread.
        """
        return self._new_connection(parameters, custom_ioloop=self.loop, **callbacks)

    def add(self, link: Link) -> None:
        """Register a link, so that ``cut_off`` also drops the link's connection."""
        self._links.append(link)

    def cut_off(self, reason: str | None) -> None:
        """Drop all connections without sending an AMQP close. Open no connection until a call with ``reason`` None.

        Call this method on the I/O thread.
        """
        self.cut = reason
        if reason is not None:
            for link in self._links:
                link.drop(reason)

    def at_round_end(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at the end of each event-loop iteration, after all written frames have been sent."""
        self._round_ends.append(callback)

    def _end_round(self) -> None:
        for callback in self._round_ends:
            callback()

    @property
    def is_stopped(self) -> bool:
        """True if the thread no longer runs callbacks."""
        return self._is_stopped

    def stop(self, timeout: float) -> None:
        """Stop the event loop, and wait up to ``timeout`` seconds for the thread to exit."""
        self.call(self.loop.stop)
        self._is_stopped = True
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self.loop.close()

    def _run(self) -> None:
        try:
            self.loop.start()
        except Exception:
            log.exception("the AMQP thread crashed")
            self._is_stopped = True
            self._on_crash()
