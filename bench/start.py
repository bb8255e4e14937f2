"""The time of a start, and the time without a worker after a kill.

The shipped project runs under ``python -m runner`` on a running broker. These times are measured:

- From the start of the product to the first 202 of ``POST /orders``, in an empty vhost.
- The same in the vhost with the declared topology.
- From ``kill -9`` of the payment worker until its successor handles an order that was placed after the kill. It is the
  slot's first kill, so the restart has no delay, which is checked.

The payment plugin is the shipped one plus a few lines that record when it starts an order.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from bench.ground import Ground, say
from bench.latency_orders import Client
from bench.shipped import shipped
from tests.ports import free_port
from tests.rabbit import wait_until
from tests.running import Runner

NAME = "start"
ABOUT = "python -m runner to the first 202; kill -9 of a worker to its successor at work"

#: Seconds between two requests with the first order.
POLL = 0.003
FILE = "handled.txt"

PLUGIN = """
import os
import time

from plugins import payment
from runner import hookimpl

Options = payment.Options
start = payment.start


@hookimpl
def handle(message, resources, store):
    with open("handled.txt", "a", buffering=1) as file:
        file.write(f"{os.getpid()} {time.monotonic():.6f}\\n")
    return payment.handle(message, resources, store)
"""


def measure(ground: Ground, runs: int, quick: bool) -> Iterator[Figure]:
    """Measure the seconds to the first 202 with and without a declaration, and to the successor's first message."""
    declaring, standing, successor = [], [], []
    for run in range(runs):
        with ground.vhost() as vhost:
            port = free_port()
            changes = {"payment": {"plugin": "timed"}}
            folder = shipped(ground, vhost, port, changes=changes, plugins={"timed": PLUGIN})
            with started(folder) as runner:
                declaring.append(first_order(port) - runner.started)
            with started(folder) as runner:
                standing.append(first_order(port) - runner.started)
                successor.append(killed(runner, folder, port))
        said = ", ".join(f"{one[-1]:.2f}" for one in (declaring, standing, successor))
        say(f"    run {run + 1} of {runs}, seconds: {said}")
    yield Figure.alone("start to first 202, topology unchanged", "s", standing, "ours <= 1")
    yield Figure.alone("start to first 202, vhost empty", "s", declaring)
    yield Figure.alone("kill -9 to successor's first message", "s", successor, "ours <= 0.4")


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Runner]:
    """Run the product in a folder without waiting for it. Raises RuntimeError if its exit code is not 0."""
    runner = Runner([sys.executable, "-m", "runner"], folder)
    try:
        yield runner
        runner.pid_of("notification.1")
        runner.pid_of("payment.1")
        code = runner.stop(timeout=30)
        if code != 0:
            raise RuntimeError(f"python -m runner exited with {code}:\n{runner.output[-3000:]}")
    finally:
        if runner.process.poll() is None:
            runner.process.kill()
            runner.process.wait(10)


def first_order(port: int) -> float:
    """Place an order until it is accepted, and return when it was. Raises AssertionError after 30 s."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), Client(port) as client:
            if client.order(0)[0] == 202:
                return time.monotonic()
        time.sleep(POLL)
    raise AssertionError("no order was accepted within 30 s")


def killed(runner: Runner, folder: Path, port: int) -> float:
    """Return the seconds from ``kill -9`` of the payment worker to its successor's first order."""
    worker = runner.pid_of("payment.1")
    # When the first order is done, only the order that is placed below waits for the successor.
    wait_until(lambda: worker in handled(folder), 30, "the first order is handled")
    time.sleep(0.5)
    with Client(port) as client:
        at = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        status, body = client.order(1)
    if status != 202:
        raise RuntimeError(f"the order after the kill was not accepted: {status} {body!r}")
    runner.wait_for(r"payment\.1 killed by SIGKILL.*: restarting now")
    successor = runner.pid_of("payment.1", count=2)
    return float(wait_until(lambda: handled(folder).get(successor), 30, "the successor handles the order")) - at


def handled(folder: Path) -> dict[int, float]:
    """Return when each payment worker started its first order, by pid, on the clock ``time.monotonic``."""
    file = folder / FILE
    found: dict[int, float] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        pid, at = line.split()
        found.setdefault(int(pid), float(at))
    return found
