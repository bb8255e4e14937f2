"""The time from an order to the e-mail about its payment, at a steady rate of 200 orders a second.

The shipped services run under ``python -m runner`` with the shipped topology (quorum queues) and default settings. Only
payment's simulated latency and failures are off, and notification writes its e-mails to the log. Each order causes two
e-mails. The second one ends the measured time.

The time starts when ``order.created`` or the request to the order API is written to the socket. It ends when the
transport has accepted the e-mail. A plugin around the shipped notification records that (``latency_mail``). The peer
does the same work on the same queues in one process.

The first second of each run warms up and does not count. p50 and p99 are those of one run, and figures are medians of
all runs.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

from bench.figure import Figure
from bench.ground import Ground, is_installed, say
from bench.latency_mail import paid_at
from bench.latency_orders import post, publish
from bench.shipped import shipped
from tests.ports import free_port
from tests.rabbit import Vhost, wait_until

NAME = "latency"
ABOUT = "from event and from POST /orders to the e-mail at 200 orders/s, beside one FastStream process"

RATE = 200
PEER = "one FastStream process"
#: The orders of the first second, which do not count.
WARM_UP = RATE
GOALS = {"event to e-mail": (3, 10), "POST /orders to e-mail": (6, 20)}

PLUGIN = """
import dataclasses

from plugins import notification
from runner import hookimpl

from bench.latency_mail import TimedTransport

Options = notification.Options
handle = notification.handle


@hookimpl
def start(options, context):
    notifier = notification.start(options, context)
    return dataclasses.replace(notifier, transport=TimedTransport(notifier.transport))
"""

Percentiles = tuple[float, float]


def measure(ground: Ground, runs: int, quick: bool) -> Iterator[Figure]:
    """Measure p50 and p99 in milliseconds, of the product and the peer in turns."""
    count = WARM_UP + RATE * (2 if quick else 10)
    found: dict[str, list[Percentiles]] = {name: [] for name in GOALS}
    peers: list[Percentiles] = []
    with contextlib.ExitStack() as stack:
        vhost, port = stack.enter_context(ground.vhost()), free_port()
        folder = stack.enter_context(ours(ground, vhost, port))
        # Both consume from queues of the same names, so each needs its own vhost.
        other = stack.enter_context(ground.vhost())
        their_folder = None
        if is_installed("faststream", "uvloop"):
            their_folder = stack.enter_context(faststream(ground, other))
        for run in range(runs):
            found["event to e-mail"].append(timed(folder, lambda: publish(vhost.url, RATE, count)))
            if their_folder is not None:
                peers.append(timed(their_folder, lambda: publish(other.url, RATE, count)))
            found["POST /orders to e-mail"].append(timed(folder, lambda: post(port, RATE, count)))
            said = [f"{name} {one[-1][0]:.1f}/{one[-1][1]:.1f}" for name, one in {**found, PEER: peers}.items() if one]
            say(f"    run {run + 1} of {runs}, p50/p99 in ms: {', '.join(said)}")
    for name, values in found.items():
        for index, quantile in enumerate(("p50", "p99")):
            mine, goal = [one[index] for one in values], f"ours <= {GOALS[name][index]}"
            title = f"{name}, {quantile}"
            if peers and name == "event to e-mail":
                its = [one[index] for one in peers]
                yield Figure.beside(title, "ms", mine, its, PEER, goal, less_is_better=True)
            else:
                yield Figure.alone(title, "ms", mine, goal)


def timed(folder: Path, send: Callable[[], dict[str, float]]) -> Percentiles:
    """Send orders, and return p50 and p99 in milliseconds. Raises AssertionError if an e-mail is missing."""
    sent = send()
    orders = sorted(sent, key=lambda order: sent[order])[WARM_UP:]
    paid: dict[str, float] = {}

    def all_paid() -> bool:
        paid.update(paid_at(folder))
        return sent.keys() <= paid.keys()

    try:
        wait_until(all_paid, 30)
    except AssertionError:
        missing = [str(number) for number, order in enumerate(sorted(sent, key=sent.__getitem__)) if order not in paid]
        which = f"number {', '.join(missing[:20])}"
        raise AssertionError(f"{len(missing)} of {len(sent)} orders have no e-mail after 30 s: {which}") from None
    cuts = quantiles((1000 * (paid[order] - sent[order]) for order in orders), n=100)
    return cuts[49], cuts[98]


@contextlib.contextmanager
def ours(ground: Ground, vhost: Vhost, port: int) -> Iterator[Path]:
    """Run the three shipped services. Yields the folder with the times of the e-mails."""
    changes: dict[str, dict[str, Any]] = {
        "payment": {"options": {"failure_rate": 0.0, "latency": "0ms"}},
        "notification": {"plugin": "timed"},
    }
    folder = shipped(ground, vhost, port, changes=changes, plugins={"timed": PLUGIN})
    with ground.product(vhost, folder):
        yield folder


@contextlib.contextmanager
def faststream(ground: Ground, vhost: Vhost) -> Iterator[Path]:
    """Run the peer on queues of our topology. Yields the folder with the times of the e-mails."""
    ground.command(shipped(ground, vhost, free_port()), "apply")
    folder = Path(tempfile.mkdtemp(dir=ground.folder, prefix="peer-"))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.peers.latency_faststream", vhost.url],
            cwd=folder, stdout=log, stderr=log, env=None,
        )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or has_consumers(vhost), 30, "the peer consumes")
        if process.poll() is not None:
            raise RuntimeError(f"the peer exited with {process.returncode}:\n{(folder / 'log').read_text()[-2000:]}")
        yield folder
    finally:
        process.terminate()
        time.sleep(0.2)
        process.kill()
        process.wait(10)


def has_consumers(vhost: Vhost) -> bool:
    """Return True if all three queues have a consumer."""
    return len(vhost.rabbit.api("GET", f"/consumers/{vhost.name}")) >= 3
