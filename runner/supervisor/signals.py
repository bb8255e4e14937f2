"""Signal handling in the supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

#: Seconds within which two signals count as one Ctrl-C. The terminal sends a signal, and a parent process may forward
#: it again.
SAME_KEY_PRESS = 0.3


class Signals:
    """The supervisor's signal handlers. SIGTERM and SIGINT stop all services, and a second signal kills all processes.

    SIGHUP reloads the files. If the supervisor's terminal is closed, SIGHUP stops all services instead.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_stop: Callable[[str], None],
        on_kill: Callable[[], None],
        on_hangup: Callable[[], None] | None,
    ) -> None:
        self._on_stop, self._on_kill, self._on_hangup = on_stop, on_kill, on_hangup
        self._terminal = Terminal()
        self._stopped_at: float | None = None
        # A process inherits its signal mask (execve(2)). A mask from the parent process must not prevent the supervisor
        # or the instances from stopping.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # If nohup started the supervisor, SIGHUP remains ignored. Shells make background processes of scripts
            # ignore SIGINT, but SIGINT must always stop the supervisor.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal, number)

    def stopping(self) -> None:
        """Let the next signal kill all processes. Called when the services are already stopping."""
        self._stopped_at = time.monotonic()

    def _on_signal(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP and self._on_hangup is not None and not self._terminal.is_lost():
            if self._stopped_at is None:
                self._on_hangup()
        elif self._stopped_at is None:
            self._on_stop(f"{signal.Signals(number).name} received")
        elif time.monotonic() - self._stopped_at >= SAME_KEY_PRESS:
            self._on_kill()


class Terminal:
    """The terminal in which the supervisor was started, if there is one."""

    def __init__(self) -> None:
        self._was_there = _is_there()

    def is_lost(self) -> bool:
        """Return True if the terminal was closed, so that a SIGHUP is not a reload request."""
        return self._was_there and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
