"""The child's end of the socket to its supervisor: words up, listening sockets and end-of-file down.

The words are systemd's (sd_notify(3)): ``READY=1``, ``STATUS=...``, ``WATCHDOG=1``, one per line; and ours:
``X_PROBLEM=...`` is why it cannot do its work for now, empty when it can; ``LISTEN=ADDRESS PORT`` asks for a socket
that listens there, which outlives this process. End-of-file means that the supervisor is gone, however it went; the
child then stops by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from queue import Empty, SimpleQueue

from runner.ipc.listening import listening_socket

#: Names the inherited file descriptor; absent when a person started the process by hand.
VARIABLE = "FASTCOMMERCE_LIFELINE"
#: How often a sign of life is expected, in microseconds, as systemd gives it (sd_watchdog_enabled(3)).
WATCHDOG_VARIABLE = "WATCHDOG_USEC"
#: Seconds that the supervisor may take to answer.
ANSWER_TIMEOUT = 5.0


class Lifeline:
    """Talks to the supervisor, or to nobody when the process was started by hand."""

    def __init__(self, connection: socket.socket | None, watchdog: float = 0.0) -> None:
        self._connection = connection
        #: Seconds within which a sign of life is expected; 0 for none.
        self.watchdog = watchdog
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._answers: SimpleQueue[tuple[str, list[int]]] = SimpleQueue()

    @classmethod
    def inherited(cls) -> Lifeline:
        """Take over the descriptor named in the environment, and keep it from this process's children."""
        number = os.environ.pop(VARIABLE, None)
        watchdog = os.environ.pop(WATCHDOG_VARIABLE, "")
        if number is None:
            return cls(None)
        connection = socket.socket(fileno=int(number))
        connection.set_inheritable(False)
        return cls(connection, int(watchdog) / 1_000_000 if watchdog.isdecimal() else 0.0)

    def send(self, *words: str) -> None:
        """Send words such as ``READY=1``; a supervisor that is gone or does not read is no error here."""
        if self._connection is None:
            return
        lines = "".join(word.replace("\n", " ") + "\n" for word in words).encode()
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(lines)

    def listen(self, host: str, port: int) -> socket.socket:
        """A socket that listens on a numeric address, shared with the other instances; needs ``watch``.

        Raises OSError where it cannot be had.
        """
        if self._connection is None:
            return listening_socket(host, port)
        with self._asking:
            self.send(f"LISTEN={host} {port}")
            try:
                word, descriptors = self._answers.get(timeout=ANSWER_TIMEOUT)
            except Empty:
                raise TimeoutError(f"the supervisor gave no socket within {ANSWER_TIMEOUT:g} s") from None
        if not descriptors:
            number = int(word.partition("=")[2] or 0)
            raise OSError(number, os.strerror(number))
        return socket.socket(fileno=descriptors[0])

    def watch(self, grace: float) -> None:
        """From now on, when the supervisor is gone: SIGTERM to this process, SIGKILL to its group after ``grace`` s.

        The SIGKILL needs this process to lead its own group, as every supervised child does.
        """
        if self._connection is not None:
            threading.Thread(target=self._read, args=(self._connection, grace), name="lifeline", daemon=True).start()

    def _read(self, connection: socket.socket, grace: float) -> None:
        with contextlib.suppress(OSError):
            while True:
                # One answer at a time is asked for, so what comes together is one.
                data, descriptors, _, _ = socket.recv_fds(connection, 4096, 1, socket.MSG_CMSG_CLOEXEC)
                if not data:
                    break
                self._answers.put((data.decode("utf-8", "replace").strip(), descriptors))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
