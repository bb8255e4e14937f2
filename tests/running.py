"""A project folder and the runner in it, used as a person would use them."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from runner.cli.main import main
from runner.supervisor.control.client import ask
from tests.ports import free_port
from tests.rabbit import wait_until

ROOT = Path(__file__).parent.parent
#: The pattern of the beginning of a printed command, which depends on the interpreter and the folders.
PRINTED = r"(?:PYTHONPATH=\S+ )?[^\s(]*python\S* -m runner(?: --project \S+)?"
ALICE = {"customer_email": "alice@example.com", "amount": 149.99, "currency": "USD"}


def plain(text: str) -> str:
    """Return a text in which every printed command begins with ``python -m runner``."""
    return re.sub(PRINTED, "python -m runner", text)


def printed_commands(text: str) -> list[str]:
    """Return the commands that a text prints. Each ends with its line, or before ``;`` or ``)``."""
    return [found[0] for found in re.finditer(PRINTED + r"(?: [^;)\n]*)?", text)]


def run_printed(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a printed command in a folder, as a new shell would, without the environment of this process."""
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "RABBITMQ_URL")}
    return subprocess.run(
        ["sh", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


class Runner:
    """A ``python -m runner`` process and its output."""

    def __init__(
        self, command: list[str], cwd: Path, env: dict[str, str] | None = None, stdin: str | None = None
    ) -> None:
        self.started = time.monotonic()
        self.command = command
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
        if stdin is not None:
            assert self.process.stdin is not None
            with self.process.stdin as stream:
                stream.write(stdin)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        """All output so far."""
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, timeout: float = 30.0, *, count: int = 1) -> re.Match[str]:
        """Wait until ``pattern`` was printed ``count`` times. Return the last match."""

        def found() -> list[re.Match[str]]:
            matches = list(re.finditer(pattern, self.output, re.MULTILINE))
            return matches if len(matches) >= count else []

        try:
            matches: list[re.Match[str]] = wait_until(found, timeout, f"{count} x {pattern!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- the runner printed:\n{self.output}") from None
        return matches[count - 1]

    def pid_of(self, slot: str, count: int = 1) -> int:
        """Return the pid in the log line for the ``count``-th instance of a slot."""
        return int(self.wait_for(rf"{re.escape(slot)} RUNNING, pid (\d+)", count=count)[1])

    def children(self) -> dict[int, str]:
        """Return the command lines of the live children by pid."""
        result = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                stat = (path / "stat").read_text().rpartition(")")[2].split()
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if int(stat[1]) == self.process.pid and stat[0] != "Z":
                result[int(path.name)] = command
        return result

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def stop(self, number: signal.Signals = signal.SIGINT, timeout: float = 15.0) -> int:
        """Send a signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout)
        self._reader.join(5)
        return code


@contextlib.contextmanager
def workers_killed(
    runner: Runner, interval: float, slot: str = "", done: Callable[[], int] | None = None
) -> Iterator[list[int]]:
    """Kill a worker of ``slot``, or any worker, with SIGKILL every ``interval`` seconds. Yield the pids.

    ``done`` returns the amount of finished work. A worker is killed only after some work, so that a slow start on a
    busy
    machine does not prevent all progress.
    """
    killed: list[int] = []
    done = done or itertools.count().__next__
    before = done()
    stop, draw = threading.Event(), random.Random(7)

    def kill() -> None:
        nonlocal before
        while not stop.wait(interval):
            if done() <= before:
                continue
            workers = [pid for pid, command in runner.children().items() if f"runner.worker {slot}" in command]
            if workers:
                killed.append(draw.choice(sorted(workers)))
                before = done()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


class Project:
    """A folder with topology.yaml, config.yaml and plugins/.

    It has no ``audit`` and no ``dashboard``, because most tests need neither, and start two workers less without them.
    """

    def __init__(self, folder: Path, *, audit: bool = False, dashboard: bool = False) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        for name in ("topology.yaml", "config.yaml"):
            shutil.copy(ROOT / name, folder)
        # With the compiled code: it is valid for a file's time and size, which the copies keep.
        shutil.copytree(ROOT / "plugins", folder / "plugins")
        self.port = free_port()
        self._runners: list[Runner] = []
        config, topology = self.config(), self.topology()
        config["services"]["order_api"]["options"]["port"] = self.port
        if dashboard:
            self.dashboard_port = free_port()
            config["services"]["dashboard"] = {"options": {"port": self.dashboard_port}}
        else:
            del config["services"]["dashboard"]
        if not audit:
            del config["services"]["audit"], topology["queues"]["audit.events"]
        self.set_config(config)
        self.set_topology(topology)

    def config(self) -> Any:
        """Return config.yaml as plain values."""
        return yaml.safe_load((self.folder / "config.yaml").read_text())

    def topology(self) -> Any:
        """Return topology.yaml as plain values."""
        return yaml.safe_load((self.folder / "topology.yaml").read_text())

    def set_config(self, data: Any) -> None:
        """Write config.yaml."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(data, sort_keys=False))

    def set_topology(self, data: Any) -> None:
        """Write topology.yaml."""
        (self.folder / "topology.yaml").write_text(yaml.safe_dump(data, sort_keys=False))

    def options(self, service: str, **options: Any) -> None:
        """Change options of a service in config.yaml."""
        config = self.config()
        config["services"][service].setdefault("options", {}).update(options)
        self.set_config(config)

    def plugin(self, name: str, source: str) -> None:
        """Add a plugin."""
        (self.folder / "plugins" / f"{name}.py").write_text(source)

    def run(self, *arguments: str, url: str | None = None, env: dict[str, str] | None = None) -> Runner:
        """Start ``python -m runner`` in the folder."""
        environment = dict(env or {}) | ({"RABBITMQ_URL": url} if url else {})
        runner = Runner([sys.executable, "-m", "runner", *arguments], self.folder, environment)
        self._runners.append(runner)
        return runner

    def call(self, *arguments: str, url: str | None = None) -> tuple[int, str]:
        """Run a command in this process, which is faster. Return its exit code and output."""
        environment = {"RABBITMQ_URL": url} if url else {}
        done = CliRunner().invoke(
            main, ["--project", str(self.folder), *arguments], env=environment, catch_exceptions=False
        )
        return done.exit_code, done.output

    def post(self, order: Any = None, timeout: float = 10.0, **headers: str) -> tuple[int, Any]:
        """Post an order. Return status and body; the status is 0 if no service listens."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/orders",
            data=json.dumps(ALICE if order is None else order).encode(),
            headers={"Content-Type": "application/json", **headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())
        except (OSError, http.client.HTTPException):
            return 0, None

    def first_order(self, timeout: float = 30.0) -> str:
        """Post until the first 202. Return the order's id."""

        def accepted() -> str | None:
            status, body = self.post()
            return str(body["order_id"]) if status == 202 else None

        return str(wait_until(accepted, timeout, "the first 202"))

    def slots(self) -> dict[str, Any]:
        """Return the status of each slot from the control socket."""
        *_, answer = ask(self.folder, "status")
        return {one["slot"]: one for one in answer["slots"]}

    def close(self) -> None:
        """Stop the runners that a failed test left, and print their output, which pytest shows after a failure."""
        for runner in self._runners:
            print(f"--- {' '.join(runner.command[1:])} printed:\n{runner.output}")
            if runner.process.poll() is None:
                runner.process.kill()
                runner.process.wait(20)
