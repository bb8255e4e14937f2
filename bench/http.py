"""``POST /orders`` with 32 keep-alive clients. Every event is routed and confirmed before its 202.

The product is the shipped order API under ``python -m runner``, with the shipped topology. It runs in one process, and
in four processes that share the listening socket. Each order is also a line of its log. The peers check the same fields
of an order and log nothing. ``wrk`` sends the requests with one thread, to each server in turn within a run, with empty
queues. The percentiles are those of wrk. If enough cores are free, which is measured, the goal of four processes is 1.5
times the rate of one. ``http_blocked`` measures the time during which the broker blocks publishers.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.figure import Figure
from bench.ground import Ground, is_installed, say
from bench.http_blocked import blocked
from bench.http_server import Server, order_api, peer
from tests.rabbit import Vhost

NAME = "http"
ABOUT = "POST /orders with 32 clients, beside FastAPI with FastStream and Flask with pika; 503 when the broker blocks"

SCRIPT = Path(__file__).parent / "http_orders.lua"
CLIENTS = 32
INSTANCES = 4
FASTSTREAM, LOCK, CONNECTION = "FastAPI + FastStream", "Flask + channel behind a lock", "Flask + connection per request"
PEERS = {
    FASTSTREAM: ("bench.peers.http_faststream",),
    LOCK: ("bench.peers.http_flask", "lock"),
    CONNECTION: ("bench.peers.http_flask", "connection"),
}
#: The queues to which the shipped topology routes an order.
QUEUES = ("payment.order.created", "notification.order.events")


def measure(ground: Ground, runs: int, quick: bool) -> Iterator[Figure]:
    """Measure requests a second, p50 and p99, then the longest wait for a 503."""
    if shutil.which("wrk") is None:
        say("    load: not measured, wrk is not installed; apt-get install wrk")
    else:
        yield from figures(loaded(ground, runs, 1 if quick else 3))
    waits = blocked(ground, runs)
    yield Figure.alone("POST /orders, longest wait for 503 as the broker blocks", "ms", waits, "ours <= 1000")


def loaded(ground: Ground, runs: int, seconds: int) -> dict[str, dict[str, list[float]]]:
    """Measure each server under load. Return ``rate``, ``p50`` and ``p99`` of each run by server."""
    with contextlib.ExitStack() as stack:
        vhost = stack.enter_context(ground.vhost())
        servers = {"ours": stack.enter_context(order_api(ground, vhost, 1))}
        if is_installed("fastapi", "faststream", "uvicorn", "uvloop", "httptools"):
            servers[FASTSTREAM] = stack.enter_context(peer(ground, vhost, *PEERS[FASTSTREAM]))
        for name in (LOCK, CONNECTION):
            servers[name] = stack.enter_context(peer(ground, vhost, *PEERS[name]))
        servers["four"] = stack.enter_context(order_api(ground, vhost, INSTANCES))
        return in_turns(vhost, servers, runs, seconds)


def figures(found: dict[str, dict[str, list[float]]]) -> Iterator[Figure]:
    """Yield the figures of all runs."""
    ours = found["ours"]
    goals = {FASTSTREAM: "ratio >= 1.1", CONNECTION: "ratio >= 7"}
    for name in PEERS:
        if name in found:
            yield Figure.beside(
                "POST /orders, one process", "req/s", ours["rate"], found[name]["rate"], name, goals.get(name)
            )
    for key, unit, goal in (("p50", "ms", None), ("p99", "ms", "ratio >= 1"), ("cpu", "µs/req", None)):
        name = "POST /orders, " + ("CPU of the server" if key == "cpu" else key)
        if FASTSTREAM in found:
            theirs = found[FASTSTREAM][key]
            yield Figure.beside(name, unit, ours[key], theirs, FASTSTREAM, goal, less_is_better=True)
        else:
            yield Figure.alone(name, unit, ours[key])
    # The broker and the client need cores too. If all cores are busy, more processes cannot increase the rate.
    cores, busy = os.cpu_count() or 1, median(ours["busy"])
    room = cores / busy
    say(f"    with one process {busy:.1f} of {cores} cores are busy, which leaves room for {room:.1f} times the rate")
    yield Figure.beside(
        f"POST /orders, {INSTANCES} processes", "req/s", found["four"]["rate"], ours["rate"], "ours, one process",
        "ratio >= 1.5" if room >= 1.5 else None,
    )  # fmt: skip


def in_turns(vhost: Vhost, servers: dict[str, Server], runs: int, seconds: int) -> dict[str, dict[str, list[float]]]:
    """Measure each server in turn, ``runs`` times, after a short round in which all warm up."""
    for server in servers.values():
        ask(server, 1)
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in range(runs):
        for name, server in servers.items():
            for queue in QUEUES:
                vhost.rabbit.api("DELETE", f"/queues/{vhost.name}/{queue}/contents")
            for key, value in ask(server, seconds).items():
                found[name][key].append(value)
        said = ", ".join(f"{name} {found[name]['rate'][-1]:,.0f}" for name in servers)
        say(f"    run {run + 1} of {runs}, requests a second: {said}")
    return found


def ask(server: Server, seconds: int) -> dict[str, float]:
    """Send requests to a server for ``seconds`` seconds.

    ``rate`` is in requests a second, ``p50`` and ``p99`` in milliseconds. ``cpu`` is the server's CPU time in
    microseconds for each request. ``busy`` is the number of cores that all processes of the machine used.

    Raises RuntimeError if an order was not accepted.
    """
    url = f"http://127.0.0.1:{server.port}/orders"
    cpu, busy, began = server.cpu(), busy_seconds(), time.monotonic()
    done = subprocess.run(
        [shutil.which("wrk") or "wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "-s", str(SCRIPT), url],
        capture_output=True, text=True, check=True, timeout=seconds + 30,
    )  # fmt: skip
    cpu, busy, took = server.cpu() - cpu, busy_seconds() - busy, time.monotonic() - began
    counted = json.loads(done.stdout.splitlines()[-1])
    if counted["refused"] or counted["broken"] or not counted["answers"]:
        raise RuntimeError(f"{url}: not every order was accepted, {counted}")
    return {
        "rate": counted["answers"] / counted["seconds"],
        "p50": counted["p50"],
        "p99": counted["p99"],
        "cpu": 1e6 * cpu / counted["answers"],
        "busy": busy / took,
    }


def busy_seconds() -> float:
    """Return the seconds of CPU that all processes of the machine have used."""
    # proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
    ticks = [int(field) for field in Path("/proc/stat").read_text().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
