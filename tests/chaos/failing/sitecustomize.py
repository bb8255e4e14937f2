"""Ends a process of the product right before or right after a named step, once, where a file says so.

Python imports this by its name from ``PYTHONPATH`` in every process; it does something in workers and in ``dlq`` only.
The file ``SERVICE.armed`` in the folder ``FASTCOMMERCE_FAILPOINTS`` holds ``before`` or ``after``, and a step.

Before: the step does not happen, and what does not wait for it goes on for a moment, so that what wrongly goes ahead
gets its chance; of a publish all further ones are left out too, which the broker would take for it. After: what the
step sent has reached the broker's machine, and nothing more happens in this process. Cut: the step does not happen,
its connection is lost, and the process goes on.
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

#: Seconds for which everything else goes on where a step is left out; and that what was sent may take to get away.
GOES_ON, LEAVES = 0.25, 5.0
#: No code of the product's; ``tests.chaos.failpoint`` has the same.
EXIT_CODE = 70


class Failpoints:
    """What this process may end at."""

    def __init__(self, folder: Path, service: str) -> None:
        self._armed, self._fired = folder / f"{service}.armed", folder / f"{service}.fired"
        self._lock = threading.Lock()
        #: The step that is left out from now on, until the process ends.
        self.left_out = ""
        #: The channel whose connection is about to be lost.
        self.lost: Any = None

    def is_at(self, when: str, step: str) -> bool:
        """Whether to end here; of all processes one is told so."""
        try:
            with self._lock:
                if self._armed.read_text() != f"{when} {step}":
                    return False
                self._armed.rename(self._fired)
        except FileNotFoundError:
            return False
        return True

    def cut(self, step: str, channel: Any) -> bool:
        """Whether to lose the connection instead of the step."""
        if not self.is_at("cut", step):
            return False
        from pika.exceptions import StreamLostError

        connection = channel.connection
        # In the loop's next round, as what calls this is not prepared for it.
        connection.ioloop.call_later(0, lambda: connection._terminate_stream(StreamLostError("cut")))
        self.lost = channel
        return True

    def sent(self) -> None:
        """Note that what was sent has left this process."""
        self._fired.write_text("sent")

    def leave_out(self, step: str) -> bool:
        """Whether a step is to be left out; the process ends a little later."""
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
    """Send what is still held back, wait until the other side's kernel has it, and end."""
    # What is written goes out when the loop has come round, which it will not any more.
    channel.connection.flush()
    transport = channel.connection._transport
    sock = transport._sock
    sock.setblocking(True)
    for data in transport._tx_buffers:
        sock.sendall(data)
    deadline = time.monotonic() + LEAVES
    while time.monotonic() < deadline:
        # How many bytes are not acknowledged yet (SIOCOUTQ, tcp(7)).
        if struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0] == 0:
            points.sent()
            break
    # What has come in and was not read would have the kernel reset the connection, and what was sent with it.
    sock.shutdown(socket.SHUT_WR)
    sock.settimeout(GOES_ON)
    with contextlib.suppress(OSError):
        while sock.recv(65536):
            pass
    os._exit(EXIT_CODE)


def step_of(exchange: str, routing_key: str) -> str:
    """What a publish is to the product."""
    if exchange:
        return "publish"
    if ".retry." in routing_key:
        return "wait-queue publish"
    if routing_key.endswith(".dlq"):
        return "dead-letter publish"
    return "note" if routing_key == "audit.events" else "replay"


def fail_in_pika(points: Failpoints) -> None:
    """The steps that are a frame to the broker: publishes and acks."""
    from runner.amqp.pika_adapter import FastChannel as Channel

    publish, ack = Channel.basic_publish, Channel.basic_ack

    def basic_publish(self: Any, exchange: str, routing_key: str, *args: Any, **options: Any) -> None:
        step = step_of(exchange, routing_key)
        # The broker numbers what it gets: with one left out, the next ones would be taken for it.
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
    """The moment when the broker's confirm is heard of; ``steps_of`` gets the window and the frame."""
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
    """What a confirm is to the product: that of an event, of a copy for the next try or the desk, of a note."""
    tag, multiple = frame.method.delivery_tag, frame.method.multiple
    steps = set()
    for number, ((_, exchange, routing_key), _) in window._unconfirmed.items():
        if number <= tag if multiple else number == tag:
            step = step_of(exchange, routing_key)
            steps.add({"publish": "confirm", "note": "note's confirm"}.get(step, "copy's confirm"))
    return steps


#: What a job of the store's thread is for, by the function that made it.
JOBS = {"EventOutbox.transact": "commit", "Deduplication._commit": "commit", "Relay._relay": "mark"}


def fail_at_commits(points: Failpoints) -> None:
    """The durable commit of the store, and the relay's mark that an event was sent."""
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
    """Put the failpoints in."""
    points = Failpoints(folder, service)
    fail_in_pika(points)
    if service == "dlq":
        fail_at_confirms(points, lambda *_: {"confirm"})
        return
    fail_at_confirms(points, steps_of_confirm)
    fail_at_commits(points)


def main() -> None:
    """Find out which process this is."""
    folder, words = os.environ.get("FASTCOMMERCE_FAILPOINTS"), sys.orig_argv
    if folder is None:
        return
    if "runner.worker" in words:
        install(Path(folder), words[words.index("runner.worker") + 1].partition(".")[0])
    elif "dlq" in words and "replay" in words:
        install(Path(folder), "dlq")


with contextlib.suppress(ImportError):  # the supervisor's own helpers may not find the product
    main()
