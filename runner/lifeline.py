"""The child's end of the socket to its supervisor: words up, end-of-file down.

The words are those of systemd's sd_notify(3): ``READY=1``, ``STATUS=...``, ``STOPPING=1``, one per line.
End-of-file means that the supervisor is gone, however it went; the child then stops by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time

#: Names the inherited file descriptor; absent when a person started the process by hand.
VARIABLE = "FASTCOMMERCE_LIFELINE"


class Lifeline:
    """Talks to the supervisor, or to nobody when the process was started by hand."""

    def __init__(self, connection: socket.socket | None) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def inherited(cls) -> Lifeline:
        """Take over the descriptor named in the environment, and keep it from this process's children."""
        number = os.environ.pop(VARIABLE, None)
        if number is None:
            return cls(None)
        connection = socket.socket(fileno=int(number))
        connection.set_inheritable(False)
        return cls(connection)

    def send(self, *words: str) -> None:
        """Send words such as ``READY=1``; a supervisor that is gone or does not read is no error here."""
        if self._connection is None:
            return
        lines = "".join(word.replace("\n", " ") + "\n" for word in words).encode()
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(lines)

    def watch(self, grace: float) -> None:
        """From now on, when the supervisor is gone: SIGTERM to this process, SIGKILL to its group after ``grace`` s.

        The SIGKILL needs this process to lead its own group, as every supervised child does.
        """
        if self._connection is not None:
            threading.Thread(target=self._wait_end, args=(grace,), name="lifeline", daemon=True).start()

    def _wait_end(self, grace: float) -> None:
        assert self._connection is not None  # noqa: S101 - for the type checker: watch() checked it
        with contextlib.suppress(OSError):
            while self._connection.recv(4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
