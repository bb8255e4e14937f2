"""Our supervisor beside supervisord and circus, each with the same children and its documented settings.

usage: python -m bench.supervisor [--runs N] [--idle SECONDS]

Each runs as one process with children that write down when they began. Measured are the time from ``kill -9`` of a
child to the first line of the next one, CPU and memory while nothing happens, how long it takes until all children have
begun, counted from the first of them and from its own start, and how many lines of output it takes each second.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from bench.memory import resident

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent
#: Lines of 70 bytes that one child writes.
LINES = 500_000

CHILD = """
import os, signal, sys, time
folder, lines = sys.argv[1], int(sys.argv[2])
with open(f"{folder}/{os.getpid()}", "w") as file:
    file.write(f"{time.monotonic()} ")
lifeline = os.environ.get("FASTCOMMERCE_LIFELINE")
if lifeline:
    os.write(int(lifeline), b"READY=1\\nSTATUS=at work\\n")
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
if lines:
    block = b"".join(b"line %064d\\n" % number for number in range(1000))
    began = time.monotonic()
    for _ in range(lines // 1000):
        sys.stdout.buffer.write(block)
    sys.stdout.flush()
    with open(f"{folder}/took", "w") as file:
        file.write(f"{time.monotonic() - began} ")
while True:
    signal.pause()
"""

HOST = """
import json, sys
from pathlib import Path
from runner.supervisor.output.console import Console
from runner.supervisor.control.socket_server import Control
from runner.supervisor.control.commands import Commands
from runner.supervisor.output.journal import Journal
from runner.supervisor.loop import Supervisor
from runner.supervisor.program import Program
from runner.supervisor.control.upkeep import Upkeep
from runner.supervisor.processes.usage import Sampler

command, count = json.loads(sys.argv[1])
journal, sampler = Journal(Console()), Sampler()
supervisor = Supervisor([Program("child", tuple(command), instances=count)], lambda: None, journal)
supervisor.attach(Upkeep(supervisor, sampler, lambda _: 0).begin)
supervisor.attach(Control(Path(), Commands(supervisor, sampler, lambda: True), journal).begin)
sys.exit(supervisor.run())
"""


def ours(folder: Path, command: list[str], count: int) -> list[str]:
    """The supervisor of this project, as ``python -m runner`` runs it."""
    import json

    return [sys.executable, "-c", HOST, json.dumps([command, count])]


def supervisord(folder: Path, command: list[str], count: int) -> list[str]:
    """Supervisord in the foreground, its children's output in files, as by default."""
    words = " ".join(command)
    (folder / "supervisord.conf").write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={folder}/supervisord.log\npidfile={folder}/pid\nchildlogdir={folder}\n"
        f"[program:child]\ncommand={words}\nnumprocs={count}\nprocess_name=child_%(process_num)d\n"
        f"autorestart=true\nredirect_stderr=true\n"
    )
    return [str(BIN / "supervisord"), "-c", str(folder / "supervisord.conf")]


def circus(folder: Path, command: list[str], count: int) -> list[str]:
    """Circusd with its default check interval; output to a file."""
    (folder / "circus.ini").write_text(
        f"[circus]\nendpoint = ipc://{folder}/endpoint\npubsub_endpoint = ipc://{folder}/pubsub\n"
        f"[watcher:child]\ncmd = {command[0]}\nargs = {' '.join(command[1:])}\nnumprocesses = {count}\n"
        f"stdout_stream.class = FileStream\nstdout_stream.filename = {folder}/out.log\ncopy_env = True\n"
    )
    return [str(BIN / "circusd"), str(folder / "circus.ini")]


class Running:
    """One supervisor and its children."""

    def __init__(self, make: Callable[[Path, list[str], int], list[str]], count: int, lines: int = 0) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.begun = Path(self._folder.name) / "begun"
        self.begun.mkdir()
        child = Path(self._folder.name) / "child.py"
        child.write_text(CHILD)
        command = [sys.executable, "-S", "-E", str(child), str(self.begun), str(lines)]
        self.started = time.monotonic()
        self.output = Path(self._folder.name) / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                make(Path(self._folder.name), command, count),
                cwd=self._folder.name,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
            )
        self.wait(lambda: len(self.times()) >= count)

    def wait(self, condition: Callable[[], object], timeout: float = 60.0) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"it does not come to that:\n{self.output.read_text(errors='replace')[-2000:]}")
            time.sleep(0.002)

    def times(self) -> dict[int, float]:
        """When each child began, by pid."""
        found = {}
        for path in self.begun.glob("[0-9]*"):
            with contextlib.suppress(ValueError, OSError):
                if (text := path.read_text()).endswith(" "):
                    found[int(path.name)] = float(text)
        return found

    def restart(self, pid: int) -> float:
        """Seconds from the kill of a child to the first line of the next one."""
        before = self.times().keys()
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self.wait(lambda: self.times().keys() - before)
        (new,) = self.times().keys() - before
        return self.times()[new] - killed

    def idle(self, seconds: float) -> tuple[float, float]:
        """Percent of a core and megabytes while nothing happens."""

        def ticks() -> float:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        before, began = ticks(), time.monotonic()
        time.sleep(seconds)
        percent = 100 * (ticks() - before) / (time.monotonic() - began)
        return percent, resident(self.process.pid)

    def took(self) -> float:
        """Seconds that the child took to write its lines."""
        path = self.begun / "took"
        self.wait(lambda: path.exists() and path.read_text().endswith(" "))
        return float(path.read_text())

    def close(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()
        for pid in self.times():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._folder.cleanup()


@contextlib.contextmanager
def running(make: Callable[[Path, list[str], int], list[str]], count: int, lines: int = 0) -> Iterator[Running]:
    """One of them, for as long as it takes."""
    one = Running(make, count, lines)
    try:
        yield one
    finally:
        one.close()


def examine(make: Callable[[Path, list[str], int], list[str]], runs: int, idle: float) -> dict[str, float]:
    """All figures of one of them."""
    found: dict[str, float] = {}
    with running(make, 20) as one:
        time.sleep(2.0)  # until supervisord takes its children for started
        pids = list(one.times())
        found["restart ms"] = 1000 * median(one.restart(pid) for pid in pids[:runs])
        time.sleep(1.0)
        found["idle CPU %"], found["memory MB"] = one.idle(idle)
    for count in (20, 50):
        spans, wholes = [], []
        for _ in range(runs):
            with running(make, count) as one:
                times = one.times().values()
                spans.append(max(times) - min(times))
                wholes.append(max(times) - one.started)
        found[f"start {count} s"] = median(spans)
        found[f"exec to {count} s"] = median(wholes)
    rates = []
    for _ in range(runs):
        with running(make, 1, LINES) as one:
            rates.append(LINES / one.took())
    found["lines/s"] = median(rates)
    return found


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="how often each is measured; medians are shown")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of doing nothing")
    options = parser.parse_args()
    peers = {"ours": ours, "supervisord": supervisord, "circus": circus}
    table = {}
    for name, make in peers.items():
        sys.stderr.write(f"measuring {name} ...\n")
        table[name] = examine(make, options.runs, options.idle)
    lines = [f"{f'20 children, medians of {options.runs}':<28}" + "".join(f"{name:>14}" for name in table)]
    for figure in table["ours"]:
        digits = 0 if figure in ("restart ms", "lines/s") else 2
        lines.append(f"{figure:<28}" + "".join(f"{found[figure]:>14,.{digits}f}" for found in table.values()))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
