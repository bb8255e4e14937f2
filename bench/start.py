"""How long a start takes, and how long nobody works after a kill.

The shipped project under ``python -m runner``, on a broker that runs. Timed are

- from its start to the first 202 of ``POST /orders``: in an empty vhost, where the topology is declared first; and in
  the same vhost again, where it stands already;
- from ``kill -9`` of the payment worker to the moment at which its successor begins to handle an order that was placed
  right after the kill. It is the first kill of that slot, so that the restart has no delay, which is checked.

The payment plugin is the shipped one in a few lines that write down when it begins with an order.
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

#: Seconds between two tries to place the first order.
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
    """Seconds to the first 202 with and without a declaration, and to the successor's first message."""
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
    yield Figure.alone("start to first 202, topology stands", "s", standing, "ours <= 1")
    yield Figure.alone("start to first 202, topology declared anew", "s", declaring)
    yield Figure.alone("kill -9 to successor's first message", "s", successor, "ours <= 0.4")


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Runner]:
    """The product in a folder, from its very start; stopped in good order. Raises RuntimeError where that fails."""
    runner = Runner([sys.executable, "-m", "runner"], folder)
    try:
        yield runner
        runner.pid_of("notification.1")
        runner.pid_of("payment.1")
        code = runner.stop(timeout=30)
        if code != 0:
            raise RuntimeError(f"python -m runner ended with {code}:\n{runner.output[-3000:]}")
    finally:
        if runner.process.poll() is None:
            runner.process.kill()
            runner.process.wait(10)


def first_order(port: int) -> float:
    """Place an order as soon as it is taken; returns when that was. Raises AssertionError after 30 s."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), Client(port) as client:
            if client.order(0)[0] == 202:
                return time.monotonic()
        time.sleep(POLL)
    raise AssertionError("no order was taken within 30 s")


def killed(runner: Runner, folder: Path, port: int) -> float:
    """Seconds from ``kill -9`` of the payment worker to its successor's first order."""
    worker = runner.pid_of("payment.1")
    # With its first order done, nothing but the one placed below waits for the successor.
    wait_until(lambda: worker in handled(folder), 30, "the first order is handled")
    time.sleep(0.5)
    with Client(port) as client:
        at = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        status, body = client.order(1)
    if status != 202:
        raise RuntimeError(f"the order after the kill was not taken: {status} {body!r}")
    runner.wait_for(r"payment\.1 killed by SIGKILL.*: restarting now")
    successor = runner.pid_of("payment.1", count=2)
    return float(wait_until(lambda: handled(folder).get(successor), 30, "the successor handles the order")) - at


def handled(folder: Path) -> dict[int, float]:
    """When each payment worker so far began with its first order, by pid, on the clock ``time.monotonic``."""
    file = folder / FILE
    found: dict[int, float] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        pid, at = line.split()
        found.setdefault(int(pid), float(at))
    return found
