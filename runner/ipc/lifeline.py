"""The child's end of the socket between a child process and the supervisor.

The child sends notifications, one per line. systemd defines ``READY=1``, ``STATUS=...`` and ``WATCHDOG=1``
(sd_notify(3)). Two other notifications are specific to this project:

- ``X_PROBLEM=...`` is the reason why the child cannot work. An empty reason means that the child can work again.
- ``LISTEN=ADDRESS PORT`` asks for a listening socket, which outlives the child.

The supervisor sends only listening sockets. When the supervisor exits or is killed, the child reads end-of-file and
stops.
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

#: The environment variable with the number of the inherited file descriptor. Not set in a process that was started by
#: hand.
VARIABLE = "FASTCOMMERCE_LIFELINE"
#: The environment variable with the longest interval between watchdog pings, in microseconds (sd_watchdog_enabled(3)).
WATCHDOG_VARIABLE = "WATCHDOG_USEC"
#: Seconds to wait for the supervisor's response.
ANSWER_TIMEOUT = 5.0


class Lifeline:
    """A child's connection to the supervisor.

    A process that was started by hand has no connection, and sends no notifications.
    """

    def __init__(self, connection: socket.socket | None, watchdog: float = 0.0) -> None:
        self._connection = connection
        #: The longest interval between watchdog pings, in seconds. 0 disables the watchdog.
        self.watchdog = watchdog
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._answers: SimpleQueue[tuple[str, list[int]]] = SimpleQueue()

    @classmethod
    def inherited(cls) -> Lifeline:
        """Open the connection on the inherited file descriptor.

        Child processes of this process do not inherit the connection.
        """
        number = os.environ.pop(VARIABLE, None)
        watchdog = os.environ.pop(WATCHDOG_VARIABLE, "")
        if number is None:
            return cls(None)
        connection = socket.socket(fileno=int(number))
        connection.set_inheritable(False)
        return cls(connection, int(watchdog) / 1_000_000 if watchdog.isdecimal() else 0.0)

    def send(self, *words: str) -> None:
        """Send notifications such as ``READY=1``. Errors are ignored, because the supervisor may have exited."""
        if self._connection is None:
            return
        lines = "".join(word.replace("\n", " ") + "\n" for word in words).encode()
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(lines)

    def listen(self, host: str, port: int) -> socket.socket:
        """Return a socket that listens on a numeric address and that all instances of the service share.

        ``watch`` must be called first. Raises OSError if the address cannot be used, and TimeoutError if the supervisor
        does not respond.
        """
        if self._connection is None:
            return listening_socket(host, port)
        with self._asking:
            self.send(f"LISTEN={host} {port}")
            try:
                word, descriptors = self._answers.get(timeout=ANSWER_TIMEOUT)
            except Empty:
                raise TimeoutError(f"the supervisor sent no listening socket within {ANSWER_TIMEOUT:g} s") from None
        if not descriptors:
            number = int(word.partition("=")[2] or 0)
            raise OSError(number, os.strerror(number))
        return socket.socket(fileno=descriptors[0])

    def watch(self, grace: float) -> None:
        """Start a thread that stops this process when the supervisor exits.

        ``grace`` seconds later, the thread kills the process group if this process leads the group, as every supervised
        child does.
        """
        if self._connection is not None:
            threading.Thread(target=self._read, args=(self._connection, grace), name="lifeline", daemon=True).start()

    def _read(self, connection: socket.socket, grace: float) -> None:
        with contextlib.suppress(OSError):
            while True:
                # Only one request is sent at a time, so one read returns data from only one response.
                data, descriptors, _, _ = socket.recv_fds(connection, 4096, 1, socket.MSG_CMSG_CLOEXEC)
                if not data:
                    break
                self._answers.put((data.decode("utf-8", "replace").strip(), descriptors))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
