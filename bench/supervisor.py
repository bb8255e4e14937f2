"""Our supervisor beside supervisord and circus, each with the same children and its documented settings.

usage: python -m bench.supervisor [--runs N] [--idle SECONDS]

Each runs as one process with children that record when they started. These values are measured:

- The time from ``kill -9`` of a child to the first line of its successor.
- CPU and memory of the idle supervisor.
- The time until all children have started, from the first of them and from the supervisor's own start.
- The lines of output that the supervisor reads each second.
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
#: Lines of 70 bytes that a child writes.
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
    """Return the command of our supervisor, as ``python -m runner`` runs it."""
    import json

    return [sys.executable, "-c", HOST, json.dumps([command, count])]


def supervisord(folder: Path, command: list[str], count: int) -> list[str]:
    """Return the command of supervisord in the foreground, with its children's output in files by default."""
    words = " ".join(command)
    (folder / "supervisord.conf").write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={folder}/supervisord.log\npidfile={folder}/pid\nchildlogdir={folder}\n"
        f"[program:child]\ncommand={words}\nnumprocs={count}\nprocess_name=child_%(process_num)d\n"
        f"autorestart=true\nredirect_stderr=true\n"
    )
    return [str(BIN / "supervisord"), "-c", str(folder / "supervisord.conf")]


def circus(folder: Path, command: list[str], count: int) -> list[str]:
    """Return the command of circusd with its default check interval and its children's output in a file."""
    (folder / "circus.ini").write_text(
        f"[circus]\nendpoint = ipc://{folder}/endpoint\npubsub_endpoint = ipc://{folder}/pubsub\n"
        f"[watcher:child]\ncmd = {command[0]}\nargs = {' '.join(command[1:])}\nnumprocesses = {count}\n"
        f"stdout_stream.class = FileStream\nstdout_stream.filename = {folder}/out.log\ncopy_env = True\n"
    )
    return [str(BIN / "circusd"), str(folder / "circus.ini")]


class Running:
    """A running supervisor and its children."""

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
        """Wait until a condition is true."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"timeout or early exit:\n{self.output.read_text(errors='replace')[-2000:]}")
            time.sleep(0.002)

    def times(self) -> dict[int, float]:
        """Return when each child started, by pid."""
        found = {}
        for path in self.begun.glob("[0-9]*"):
            with contextlib.suppress(ValueError, OSError):
                if (text := path.read_text()).endswith(" "):
                    found[int(path.name)] = float(text)
        return found

    def restart(self, pid: int) -> float:
        """Kill a child. Return the seconds to the first line of its successor."""
        before = self.times().keys()
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self.wait(lambda: self.times().keys() - before)
        (new,) = self.times().keys() - before
        return self.times()[new] - killed

    def idle(self, seconds: float) -> tuple[float, float]:
        """Measure CPU (in percent of a core) and memory (in megabytes) of the idle supervisor."""

        def ticks() -> float:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        before, began = ticks(), time.monotonic()
        time.sleep(seconds)
        percent = 100 * (ticks() - before) / (time.monotonic() - began)
        return percent, resident(self.process.pid)

    def took(self) -> float:
        """Return the seconds in which the child wrote its lines."""
        path = self.begun / "took"
        self.wait(lambda: path.exists() and path.read_text().endswith(" "))
        return float(path.read_text())

    def close(self) -> None:
        """Stop the supervisor and its children."""
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
    """Run a supervisor for the length of the block."""
    one = Running(make, count, lines)
    try:
        yield one
    finally:
        one.close()


def measure(make: Callable[[Path, list[str], int], list[str]], runs: int, idle: float) -> dict[str, float]:
    """Measure all figures of one supervisor."""
    found: dict[str, float] = {}
    with running(make, 20) as one:
        time.sleep(2.0)  # supervisord counts a child as started after 1 s
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
    """Measure all supervisors, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each measurement; medians are shown")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of idle time to measure")
    options = parser.parse_args()
    peers = {"ours": ours, "supervisord": supervisord, "circus": circus}
    table = {}
    for name, make in peers.items():
        sys.stderr.write(f"measuring {name} ...\n")
        table[name] = measure(make, options.runs, options.idle)
    lines = [f"{f'20 children, medians of {options.runs}':<28}" + "".join(f"{name:>14}" for name in table)]
    for figure in table["ours"]:
        digits = 0 if figure in ("restart ms", "lines/s") else 2
        lines.append(f"{figure:<28}" + "".join(f"{found[figure]:>14,.{digits}f}" for found in table.values()))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
