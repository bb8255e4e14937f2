"""The cost of the idle product: its supervisor with 20 payment workers, beside supervisord and circus.

The peers have 20 children that only wait. Our workers are the shipped ones, connected to the broker. ``python -m
bench.supervisor`` measures more of the supervisors, with the same simple children for all.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from bench.figure import Figure
from bench.ground import Ground, say
from bench.memory import resident
from bench.supervisor import BIN, circus, running, supervisord
from tests.running import ROOT

NAME = "supervisor"
ABOUT = "cost of the idle supervisor and of 20 idle payment workers, beside supervisord and circus"
#: The number of workers or children of each supervisor.
COUNT = 20
#: Seconds, twice the 5 s between two watchdog pings of an idle worker, so that a window contains them all.
WINDOW = 10.0


def cost(pid: int) -> float:
    """Return the seconds of CPU that a process has used, to the microsecond."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def measure(ground: Ground, runs: int, quick: bool) -> Iterator[Figure]:
    """Measure all supervisors side by side, in windows that include their periodic work."""
    with contextlib.ExitStack() as stack:
        vhost = stack.enter_context(ground.vhost())
        config = yaml.safe_load((ROOT / "config.yaml").read_text())
        payment = {**config["services"]["payment"], "instances": COUNT}
        topology = yaml.safe_load((ROOT / "topology.yaml").read_text())
        folder = ground.project(
            vhost, {"services": {"payment": payment}}, topology, {"payment": ROOT / "plugins" / "payment.py"}
        )
        product = stack.enter_context(ground.product(vhost, folder))
        workers = [product.pid(f"payment.{number}") for number in range(1, COUNT + 1)]
        pids = {"": product.runner.process.pid}
        for make in (supervisord, circus):
            if (BIN / make.__name__.replace("circus", "circusd")).exists():
                pids[make.__name__] = stack.enter_context(running(make, COUNT)).process.pid
            else:
                say(f"    not measured: {make.__name__} is not installed")
        time.sleep(3.0)
        percents: dict[str, list[float]] = {name: [] for name in (*pids, "a worker")}
        for _ in range(runs):
            began, before = time.monotonic(), {name: cost(pid) for name, pid in pids.items()}
            work = sum(map(cost, workers))
            time.sleep(WINDOW)
            part = 100 / (time.monotonic() - began)
            for name, pid in pids.items():
                percents[name].append(part * (cost(pid) - before[name]))
            percents["a worker"].append(part * (sum(map(cost, workers)) - work) / COUNT)
        sizes = {name: [resident(pid)] for name, pid in pids.items()}
        worker_sizes = [resident(pid) for pid in workers]
    yield from _beside(f"supervisor, idle CPU with {COUNT} workers", "% of a core", percents, pids, "ours <= 0.3")
    yield from _beside(f"supervisor, memory with {COUNT} workers", "MB", sizes, pids, "ours <= 35")
    yield Figure.alone("idle payment worker, memory", "MB", worker_sizes, "ours <= 45")
    yield Figure.alone("idle payment worker, CPU", "% of a core", percents["a worker"])


def _beside(
    name: str, unit: str, values: Mapping[str, Sequence[float]], pids: Iterable[str], goal: str
) -> Iterator[Figure]:
    """Yield one figure for each peer, or a figure without a peer."""
    peers = [peer for peer in pids if peer]
    if not peers:
        yield Figure.alone(name, unit, values[""], goal)
    for peer in peers:
        yield Figure.beside(name, unit, values[""], values[peer], peer, goal, less_is_better=True)
