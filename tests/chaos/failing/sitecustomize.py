"""The failpoints: a process of the product exits right before or right after a named step, once, if a file says so.

Python imports this module by its name from ``PYTHONPATH`` in every process. It acts only in workers and in ``dlq``. The
file ``SERVICE.armed`` in the folder ``FASTCOMMERCE_FAILPOINTS`` contains ``before``, ``after`` or ``cut``, and a step.

- Before: the step does not happen. Code that does not wait for the step continues for a moment, so that wrong progress
  becomes visible. After a publish is left out, all later ones are left out too, because the broker numbers publishes.
- After: the bytes of the step have reached the broker's machine, and the process does nothing more.
- Cut: the step does not happen, its connection is lost, and the process continues.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Seconds for which the process continues after a step is left out, and the time limit for sending the last bytes.
GOES_ON, LEAVES = 0.25, 5.0
#: An exit code that the product does not use; ``tests.chaos.failpoint`` has the same.
EXIT_CODE = 70


class Failpoints:
    """The failpoint of this process."""

    def __init__(self, folder: Path, service: str) -> None:
        self._armed, self._fired = folder / f"{service}.armed", folder / f"{service}.fired"
        self._lock = threading.Lock()
        #: The step that is left out from now on, until the process exits.
        self.left_out = ""
        #: The channel whose connection is about to be lost.
        self.lost: Any = None

    def is_at(self, when: str, step: str) -> bool:
        """Return True if this process must exit here. Only one process gets True."""
        try:
            with self._lock:
                if self._armed.read_text() != f"{when} {step}":
                    return False
                self._armed.rename(self._fired)
        except FileNotFoundError:
            return False
        return True

    def cut(self, step: str, channel: Any) -> bool:
        """Return True if the process must lose the connection instead of executing the step."""
        if not self.is_at("cut", step):
            return False
        from pika.exceptions import StreamLostError

        connection = channel.connection
        # In the loop's next round, because the caller is not prepared for it now.
        connection.ioloop.call_later(0, lambda: connection._terminate_stream(StreamLostError("cut")))
        self.lost = channel
        return True

    def sent(self) -> None:
        """Record that the bytes of the step have left this process."""
        self._fired.write_text("sent")

    def leave_out(self, step: str) -> bool:
        """Return True if a step must be left out. Then the process exits a little later."""
        if self.left_out == step:
            return True
        if not self.is_at("before", step):
            return False
        self.left_out = step
        timer = threading.Timer(GOES_ON, os._exit, (EXIT_CODE,))
        timer.daemon = True
        timer.start()
        return True


def flush(points: Failpoints, channel: Any) -> None:
    """Send the buffered bytes, wait until the other side's kernel has them, and exit."""
    # Normally written bytes leave in the loop's next round, which will not happen.
    channel.connection.flush()
    transport = channel.connection._transport
    sock = transport._sock
    sock.setblocking(True)
    for data in transport._tx_buffers:
        sock.sendall(data)
    deadline = time.monotonic() + LEAVES
    while time.monotonic() < deadline:
        # The number of bytes without an acknowledgement (SIOCOUTQ, tcp(7)).
        if struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0] == 0:
            points.sent()
            break
    # With unread input the kernel would reset the connection and drop the sent bytes.
    sock.shutdown(socket.SHUT_WR)
    sock.settimeout(GOES_ON)
    with contextlib.suppress(OSError):
        while sock.recv(65536):
            pass
    os._exit(EXIT_CODE)


def step_of(exchange: str, routing_key: str) -> str:
    """Return the step of the product that a publish belongs to."""
    if exchange:
        return "publish"
    if ".retry." in routing_key:
        return "retry-queue publish"
    if routing_key.endswith(".dlq"):
        return "dead-letter publish"
    return "note" if routing_key == "audit.events" else "replay"


def fail_in_pika(points: Failpoints) -> None:
    """Add failpoints to the steps that send a frame to the broker: publishes and acks."""
    from runner.amqp.pika_adapter import FastChannel as Channel

    publish, ack = Channel.basic_publish, Channel.basic_ack

    def basic_publish(self: Any, exchange: str, routing_key: str, *args: Any, **options: Any) -> None:
        step = step_of(exchange, routing_key)
        # The broker numbers publishes: after one is left out, it would take the next one for it.
        if points.left_out.endswith(("publish", "replay", "note")) or points.lost is self or points.leave_out(step):
            return
        if points.cut(step, self):
            return
        publish(self, exchange, routing_key, *args, **options)
        if points.is_at("after", step):
            flush(points, self)

    def basic_ack(self: Any, *args: Any, **options: Any) -> None:
        if points.lost is self or points.leave_out("ack") or points.cut("ack", self):
            return
        ack(self, *args, **options)
        if points.is_at("after", "ack"):
            flush(points, self)

    Channel.basic_publish, Channel.basic_ack = basic_publish, basic_ack  # type: ignore[method-assign]


def fail_at_confirms(points: Failpoints, steps_of: Callable[[Any, Any], set[str]]) -> None:
    """Add failpoints to the broker's confirms. ``steps_of`` receives the window and the frame."""
    from runner.amqp.confirms_and_returns import ConfirmWindow

    confirm = ConfirmWindow.on_confirm

    def on_confirm(self: Any, frame: Any) -> None:
        steps = steps_of(self, frame)
        if points.left_out.endswith("confirm") or any(points.leave_out(step) for step in steps):
            return
        confirm(self, frame)
        if any(points.is_at("after", step) for step in steps):
            os._exit(EXIT_CODE)

    ConfirmWindow.on_confirm = on_confirm  # type: ignore[method-assign]


def steps_of_confirm(window: Any, frame: Any) -> set[str]:
    """Return the steps that a confirm belongs to: the confirm of an event, of a copy or of a note."""
    tag, multiple = frame.method.delivery_tag, frame.method.multiple
    steps = set()
    for number, ((_, exchange, routing_key), _) in window._unconfirmed.items():
        if number <= tag if multiple else number == tag:
            step = step_of(exchange, routing_key)
            steps.add({"publish": "confirm", "note": "note's confirm"}.get(step, "copy's confirm"))
    return steps


#: The steps of the store's jobs, by the function that creates the job.
JOBS = {"EventOutbox.transact": "commit", "Deduplication._commit": "commit", "Relay._relay": "mark"}


def fail_at_commits(points: Failpoints) -> None:
    """Add failpoints to the commits of the store, and to the relay's mark for a sent event."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from runner.store.group_commit import GroupCommit

    transact = GroupCommit._transact
    steps: set[str] = set()

    def _transact(self: Any, batch: list[Any], *, is_careful: bool) -> None:
        steps.clear()
        steps.update(JOBS.get(job.work.__qualname__.partition(".<locals>")[0], "") for job in batch)
        transact(self, batch, is_careful=is_careful)
        if any(points.is_at("after", step) for step in steps if step):
            os._exit(EXIT_CODE)

    def before_commit(connection: Any) -> None:
        if threading.current_thread().name == "store" and any(points.is_at("before", one) for one in steps if one):
            time.sleep(GOES_ON)
            os._exit(EXIT_CODE)

    GroupCommit._transact = _transact  # type: ignore[method-assign]
    event.listen(Engine, "commit", before_commit)


def install(folder: Path, service: str) -> None:
    """Add all failpoints."""
    points = Failpoints(folder, service)
    fail_in_pika(points)
    if service == "dlq":
        fail_at_confirms(points, lambda *_: {"confirm"})
        return
    fail_at_confirms(points, steps_of_confirm)
    fail_at_commits(points)


def main() -> None:
    """Detect the kind of this process, and install its failpoints."""
    folder, words = os.environ.get("FASTCOMMERCE_FAILPOINTS"), sys.orig_argv
    if folder is None:
        return
    if "runner.worker" in words:
        install(Path(folder), words[words.index("runner.worker") + 1].partition(".")[0])
    elif "dlq" in words and "replay" in words:
        install(Path(folder), "dlq")


with contextlib.suppress(ImportError):  # helper processes of the supervisor may not find the product
    main()
