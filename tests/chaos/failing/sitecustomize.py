"""Ends a process of the product right before or right after a named step, once, where a file says so.

Python imports this by its name from ``PYTHONPATH`` in every process; it does something in workers and in ``dlq`` only.
The file ``SERVICE.armed`` in the folder ``FASTCOMMERCE_FAILPOINTS`` holds ``before`` or ``after``, and a step.

Before: the step does not happen, and everything that does not wait for it goes on for a moment, so that what wrongly
goes ahead gets its chance. After: what the step sent is on its way, and nothing more happens in this process.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Seconds for which everything else goes on where a step is left out; and that what was sent has to get away.
GOES_ON, LEAVES = 0.25, 0.05
#: No code of the product's; ``tests.chaos.failpoint`` has the same.
EXIT_CODE = 70


class Failpoints:
    """What this process may end at."""

    def __init__(self, folder: Path, service: str) -> None:
        self._armed, self._fired = folder / f"{service}.armed", folder / f"{service}.fired"
        self._lock = threading.Lock()
        #: The step that is left out from now on, until the process ends.
        self.left_out = ""

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


def flush(channel: Any) -> None:
    """Send what pika still holds, and end."""
    # pika writes when its loop comes round, which it will not any more.
    transport = channel.connection._transport
    transport._sock.setblocking(True)
    for data in transport._tx_buffers:
        transport._sock.sendall(data)
    time.sleep(LEAVES)
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
    from pika.channel import Channel

    publish, ack = Channel.basic_publish, Channel.basic_ack

    def basic_publish(self: Any, exchange: str, routing_key: str, *args: Any, **options: Any) -> None:
        step = step_of(exchange, routing_key)
        # The broker numbers what it gets: with one left out, the next ones would be taken for it.
        if points.left_out.endswith(("publish", "replay", "note")) or points.leave_out(step):
            return
        publish(self, exchange, routing_key, *args, **options)
        if points.is_at("after", step):
            flush(self)

    def basic_ack(self: Any, *args: Any, **options: Any) -> None:
        if points.leave_out("ack"):
            return
        ack(self, *args, **options)
        if points.is_at("after", "ack"):
            flush(self)

    Channel.basic_publish, Channel.basic_ack = basic_publish, basic_ack


def fail_at_confirms(points: Failpoints, owner: Any, is_meant: Callable[[Any, Any], bool]) -> None:
    """The moment when the broker's confirm is heard of; ``is_meant`` gets the publisher and the frame."""
    confirm = owner._on_confirm

    def on_confirm(self: Any, frame: Any) -> None:
        is_event = is_meant(self, frame)
        if points.left_out == "confirm" or (is_event and points.leave_out("confirm")):
            return
        confirm(self, frame)
        if is_event and points.is_at("after", "confirm"):
            os._exit(EXIT_CODE)

    owner._on_confirm = on_confirm


def is_of_event(publisher: Any, frame: Any) -> bool:
    """Whether a confirm is that of an event, and not of a copy or a note."""
    tag, multiple = frame.method.delivery_tag, frame.method.multiple
    return any(
        outgoing.encoded.key[1] and (number <= tag if multiple else number == tag)
        for number, outgoing in publisher._unconfirmed.items()
    )


#: What a job of the store's thread is for, by the function that made it.
JOBS = {"Outbox.take": "commit", "Intake.commit": "commit", "Relay._relay": "mark"}


def fail_at_commits(points: Failpoints) -> None:
    """The durable commit of the store, and the relay's mark that an event was sent."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from runner.store.writer import Writer

    transact = Writer._transact
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

    Writer._transact = _transact  # type: ignore[method-assign]
    event.listen(Engine, "commit", before_commit)


def install(folder: Path, service: str) -> None:
    """Put the failpoints in."""
    points = Failpoints(folder, service)
    fail_in_pika(points)
    if service == "dlq":
        from runner.amqp.replay import _Replay

        fail_at_confirms(points, _Replay, lambda *_: True)
        return
    from runner.amqp.publisher import Publisher

    fail_at_confirms(points, Publisher, is_of_event)
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
