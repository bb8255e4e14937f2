"""The child's end of the socket to its supervisor.

The child sends notifications, one per line. Three are defined by systemd (sd_notify(3)): ``READY=1``, ``STATUS=...``
and ``WATCHDOG=1``. Two are specific to this project:

- ``X_PROBLEM=...`` is the reason why the child cannot work. It is empty when the child can work again.
- ``LISTEN=ADDRESS PORT`` asks for a listening socket, which outlives the child.

The supervisor sends listening sockets. End-of-file means that the supervisor has exited or was killed. In that case
the child stops by itself.
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

#: The environment variable that contains the inherited file descriptor. Unset if the process was started by hand.
VARIABLE = "FASTCOMMERCE_LIFELINE"
#: The environment variable for the longest interval between watchdog pings, in microseconds (sd_watchdog_enabled(3)).
WATCHDOG_VARIABLE = "WATCHDOG_USEC"
#: Seconds to wait for an answer from the supervisor.
ANSWER_TIMEOUT = 5.0


class Lifeline:
    """The connection to the supervisor. A process that was started by hand has no connection and sends nothing."""

    def __init__(self, connection: socket.socket | None, watchdog: float = 0.0) -> None:
        self._connection = connection
        #: The longest interval between watchdog pings, in seconds, or 0 for no watchdog.
        self.watchdog = watchdog
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._answers: SimpleQueue[tuple[str, list[int]]] = SimpleQueue()

    @classmethod
    def inherited(cls) -> Lifeline:
        """Return the connection on the inherited descriptor. Child processes do not inherit the connection."""
        number = os.environ.pop(VARIABLE, None)
        watchdog = os.environ.pop(WATCHDOG_VARIABLE, "")
        if number is None:
            return cls(None)
        connection = socket.socket(fileno=int(number))
        connection.set_inheritable(False)
        return cls(connection, int(watchdog) / 1_000_000 if watchdog.isdecimal() else 0.0)

    def send(self, *words: str) -> None:
        """Send notifications such as ``READY=1``. Errors are ignored: the supervisor may have exited."""
        if self._connection is None:
            return
        lines = "".join(word.replace("\n", " ") + "\n" for word in words).encode()
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(lines)

    def listen(self, host: str, port: int) -> socket.socket:
        """Return a socket that listens on a numeric address, shared with the other instances. Call ``watch`` first.

        Raises OSError if the address cannot be used, and TimeoutError if the supervisor does not answer.
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
        """Watch the supervisor on a thread. When the supervisor is gone, stop this process.

        After another ``grace`` seconds, the thread kills the process group if this process is the group leader. Every
        supervised child leads its group.
        """
        if self._connection is not None:
            threading.Thread(target=self._read, args=(self._connection, grace), name="lifeline", daemon=True).start()

    def _read(self, connection: socket.socket, grace: float) -> None:
        with contextlib.suppress(OSError):
            while True:
                # Each request waits for its answer, so all data that arrives together belongs to one answer.
                data, descriptors, _, _ = socket.recv_fds(connection, 4096, 1, socket.MSG_CMSG_CLOEXEC)
                if not data:
                    break
                self._answers.put((data.decode("utf-8", "replace").strip(), descriptors))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
