"""The cost of the dashboard: CPU time of supervisor and dashboard at 50 orders a second, with 60 queues.

A page is an open stream that reads every frame. The same system is measured with no page, one page and two pages in
turns. Log lines cost the supervisor time too, so the cost of a page is the difference. The last figures are the cost of
a scrape of ``/metrics``, and the throughput of a worker while a client watches its steps.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import yaml

from bench.consume import working
from bench.figure import Figure
from bench.ground import Ground
from bench.idle import cost
from bench.latency_orders import post
from bench.progress import CpuMeter, rate
from bench.progress import watch as progress_of
from bench.shipped import shipped
from runner.errors import RunnerError
from runner.supervisor.control.client import watch
from tests.ports import free_port
from tests.rabbit import Vhost
from tests.running import ROOT

NAME = "page"
ABOUT = "CPU of supervisor and dashboard with 0, 1 and 2 open pages, of a scrape, and throughput while watched"
#: Orders a second, and queues of the topology. Each queue has three retry queues and a dead-letter queue.
ORDERS, QUEUES = 50, 60
#: Seconds of one measurement, and seconds after a page was opened or closed.
WINDOW, SETTLE = 4.0, 2.0
#: The number of open pages in turns.
PAGES = (0, 1, 2)
#: The number of scrapes in each run, and the maximum number of pairs of runs with and without a watcher.
SCRAPES, PAIRS = 2, 3


class Page:
    """An open page that reads its frames. Raises RuntimeError if there are fewer than one in two seconds."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._connection.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self._frames = 0
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._connection.recv(65536):
                self._frames += data.count(b"event: frame")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
        self._thread.join(5)
        if error == (None, None, None) and self._frames < (time.monotonic() - self._began) / 2:
            raise RuntimeError(f"only {self._frames} frames in {time.monotonic() - self._began:.0f} s")


def measure(ground: Ground, runs: int, quick: bool) -> Iterator[Figure]:
    """Measure the pages and the scrapes in one system, and a watched worker in others."""
    port, page_port = free_port(), free_port()
    percents: dict[int, list[float]] = defaultdict(list)
    idle: list[float] = []
    scrapes: list[float] = []
    with ground.vhost() as vhost:
        folder = _project(ground, vhost, port, page_port)
        with ground.product(vhost, folder) as product:
            dashboard = product.pid("dashboard.1")
            pids = (product.runner.process.pid, dashboard)
            for _ in range(runs):
                for pages in PAGES:
                    with contextlib.ExitStack() as stack:
                        for _ in range(pages):
                            stack.enter_context(Page(page_port))
                        time.sleep(SETTLE)
                        began, before, alone = time.monotonic(), sum(map(cost, pids)), cost(dashboard)
                        post(port, ORDERS, int(ORDERS * WINDOW))
                        part = 100 / (time.monotonic() - began)
                        percents[pages].append(part * (sum(map(cost, pids)) - before))
                        if not pages:
                            idle.append(part * (cost(dashboard) - alone))
                scrapes += [_scrape(page_port, pids) for _ in range(SCRAPES)]
    unit = "% of a core"
    words = f"{ORDERS} orders/s, {QUEUES} queues"
    yield Figure.alone(f"dashboard without a page, {words}", unit, idle, "ours <= 0.2")
    yield Figure.alone(f"first page, {words}", unit, _differences(percents, 1), "ours <= 2")
    yield Figure.alone(f"second page, {words}", unit, _differences(percents, 2), "ours <= 1")
    yield Figure.alone(f"a scrape of /metrics, {words}", "ms of CPU", scrapes)
    yield from _watched(ground, min(runs, PAIRS), 10_000 if quick else 30_000)


def _differences(percents: dict[int, list[float]], pages: int) -> list[float]:
    """Return the additional cost of the last page in each run."""
    return [after - before for before, after in zip(percents[pages - 1], percents[pages], strict=True)]


def _scrape(port: int, pids: tuple[int, ...]) -> float:
    """Return the milliseconds of CPU that a scrape costs supervisor and dashboard."""
    time.sleep(1.1)  # a sample is valid for a second
    before = sum(map(cost, pids))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        answer.read()
    return 1000 * (sum(map(cost, pids)) - before)


def _project(ground: Ground, vhost: Vhost, port: int, page_port: int) -> Path:
    """Write the shipped project with a dashboard and further queues."""
    changes: dict[str, dict[str, Any]] = {
        "payment": {"options": {"latency": "2ms"}},
        "dashboard": {"options": {"port": page_port, "host": "127.0.0.1", "token": ""}},
    }
    services = ("order_api", "payment", "notification", "dashboard")
    folder = shipped(ground, vhost, port, services, changes, {"dashboard": (ROOT / "plugins/dashboard.py").read_text()})
    topology = yaml.safe_load((folder / "topology.yaml").read_text())
    topology["queues"].pop("audit.events", None)
    for number in itertools.count(1):
        if len(topology["queues"]) >= QUEUES:
            break
        key = f"other.{number}"
        topology["queues"][f"{key}.events"] = {"bind": {"orders.topic": [key]}, "retry": ["1s", "5s", "30s"]}
    (folder / "topology.yaml").write_text(yaml.safe_dump(topology, sort_keys=False))
    return folder


def _watched(ground: Ground, runs: int, count: int) -> Iterator[Figure]:
    """Measure one worker with and without a client that watches its steps."""
    rates: dict[bool, list[float]] = defaultdict(list)
    costs: dict[bool, list[float]] = defaultdict(list)
    for number in range(runs):
        # The first measurement of a pair finds a cooler machine, so the order alternates.
        for is_watched in ((False, True), (True, False))[number % 2]:
            with working(ground, "quorum", count, {}) as product:
                if is_watched:
                    threading.Thread(target=_read_snapshots, args=(product.folder,), daemon=True).start()
                cpu = CpuMeter(product.pid("jobs.1"))
                samples = progress_of(product.vhost, "done", count, 90, cpu.look)
                rates[is_watched].append(rate(samples))
                costs[is_watched].append(cpu.each(samples))
    words, peer, goal = "consume, publish, ack, watched", "not watched", "ratio >= 0.98"
    yield Figure.beside(words, "msg/s", rates[True], rates[False], peer, goal)
    words = "the same, CPU of the watched worker"
    yield Figure.beside(words, "µs/msg", costs[True], costs[False], peer, less_is_better=True)


def _read_snapshots(folder: Path) -> None:
    """Read all snapshots until the supervisor exits."""
    with contextlib.suppress(RunnerError):
        for _ in watch(folder):
            pass
