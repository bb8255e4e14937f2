"""A trial: the real supervisor with the learner's files, on a virtual host that exists only for one task."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runner.admin.management_api import ManagementApi
from runner.admin.queue_counts import look
from runner.config.project import Project, load_project
from runner.errors import (
    EXIT_BROKER,
    EXIT_CONFIG,
    EXIT_FAILURE,
    EXIT_STORE,
    BrokerError,
    BrokerRefused,
    ConfigError,
    RunnerError,
)
from runner.history.reader import reading
from runner.history.records import all_attempts, find_events
from runner.learn.customer import Customer
from runner.learn.observation import Observation
from runner.learn.outbox_marks import OutboxMarks
from runner.learn.program_run import program_environment, run_program
from runner.learn.system_log import SystemLog
from runner.supervisor.control.client import CommandRefused, ask
from runner.topology.compile import compile_topology

#: Seconds to wait for a process that fails again and again, and for a process that is still starting.
START_TIMEOUT, SLOW_START = 20.0, 60.0
#: Seconds within which a command must take effect.
COMMAND_TIMEOUT = 30.0
#: Seconds for which the broker may be unreachable.
BROKER_TIMEOUT = 30.0
#: Seconds between two observations.
PAUSE = 0.05
#: The maximum number of events and of messages to read.
MOST = 10_000
_BOUND_PROGRAM = Path(__file__).with_name("bound_program.py")
_SETTLED = ("RUNNING", "FATAL", "EXITED", "STOPPED")


class SystemFailed(RunnerError):
    """The learner's system has exited, or cannot follow a command."""


class Trial:
    """One run of the learner's system. Its methods can be called from any thread."""

    def __init__(self, folder: Path, url: str, management_url: str, port: int) -> None:
        """``folder`` contains the files, and ``port`` is the port of the order API."""
        self.folder = folder
        self._url = url
        self._api = ManagementApi(url, management_url)
        self.customer = Customer(port)
        self.log = SystemLog(folder / "output.log")
        self.outbox = OutboxMarks(folder / "var" / "fastcommerce.db")
        self._process: subprocess.Popen[bytes] | None = None
        self._queues: list[str] = []
        #: The routing keys of the messages in a queue, as they were last read.
        self._known_keys: dict[str, list[str]] = {}
        self._project: Project | None = None
        #: The number of ready messages of each queue, and the time since which the broker has not answered.
        self._ready: dict[str, int | None] = {}
        self._silent_since: float | None = None
        self._silence: RunnerError | None = None
        #: The number of steps that continue in the background.
        self.background = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the supervisor. Raises ConfigError if it refuses the files, and BrokerError if no broker answers."""
        command = [
            sys.executable, "-I", "-S", str(_BOUND_PROGRAM), str(os.getpid()),
            sys.executable, "-m", "runner", "--project", str(self.folder), "run", "--log-format", "json",
        ]  # fmt: skip
        with (self.folder / "output.log").open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env=program_environment(),
            )  # fmt: skip
        try:
            self.read_files()
            self._wait_for_start()
            yield
        finally:
            self.stop()

    def read_files(self) -> None:
        """Read which queues and services there are. Call this method after each change to the files."""
        self._project = load_project(self.folder)
        names = [one.name for one in compile_topology(self._project.topology, self._project.consumed).queues]
        self._queues = list(dict.fromkeys([*self._queues, *names]))

    def _wait_for_start(self) -> None:
        """Wait until all processes run or have failed. Raises RunnerError if they still start after SLOW_START."""
        started = time.monotonic()
        while True:
            slots = self.slots()
            if slots and all(one["state"] in _SETTLED for one in slots):
                return
            self.check_exit()
            is_starting = not slots or any(one["state"] == "STARTING" for one in slots)
            waited = time.monotonic() - started
            if waited >= SLOW_START:
                raise RunnerError(f"the system has not started within {SLOW_START:g} s")
            if waited >= START_TIMEOUT and not is_starting:
                return
            time.sleep(PAUSE)

    def check_exit(self) -> None:
        """Raise the error of a supervisor that has exited."""
        code = None if self._process is None else self._process.poll()
        if code is None:
            return
        self.log.read()
        lines = [one for one in self.log.plain if one.strip()]
        if code == EXIT_CONFIG:
            raise ConfigError(lines or ["the supervisor refuses the files"])
        if code == EXIT_BROKER:
            raise BrokerError("\n".join(lines))
        last = lines[-1] if lines else next((one.message for one in reversed(self.log.lines)), "no output")
        if code < 0 or code == EXIT_STORE:
            # For example, the machine has no memory or no space on the disk left.
            raise RunnerError(f"the system stopped with exit code {code}: {last}")
        raise SystemFailed(f"the system stopped with exit code {code}: {last}")

    def slots(self) -> list[dict[str, Any]]:
        """Return the slots in the supervisor's status, or an empty list while there is no supervisor."""
        try:
            *_, answer = ask(self.folder, "status", patience=COMMAND_TIMEOUT)
        except RunnerError:
            return []
        return list(answer["slots"])

    def control(self, command: str, **request: Any) -> None:
        """Send a command to the supervisor, and wait until it has taken effect.

        Raises ConfigError if the supervisor refuses the files, SystemFailed if the system cannot follow the command,
        and RunnerError.
        """
        lines: list[str] = []
        try:
            for answer in ask(self.folder, command, patience=COMMAND_TIMEOUT, **request):
                line = answer.get("line", {})
                if line.get("level") == "error":
                    lines.append(str(line["text"]))
        except CommandRefused as error:
            if error.exit_code == EXIT_CONFIG:
                raise ConfigError(lines or [str(error)]) from None
            if error.exit_code == EXIT_FAILURE:
                raise SystemFailed(f"{command}: {error}") from None
            raise

    def run_command(self, *arguments: str) -> str:
        """Run a command of the program on this system, and return its output. Raises RunnerError with the output."""
        done = run_program(self.folder, *arguments, timeout=COMMAND_TIMEOUT * 2)
        if done.returncode:
            raise RunnerError((done.stderr or done.stdout).strip())
        return done.stdout

    def publish(self, exchange: str, key: str, body: str, order: str) -> None:
        """Publish a message directly to an exchange. Unroutable messages are dropped."""
        properties = {
            "type": key, "content_type": "application/json", "correlation_id": order, "delivery_mode": 2,
            "message_id": f"{order}-{key}",
        }  # fmt: skip
        content = {"properties": properties, "routing_key": key, "payload": body, "payload_encoding": "string"}
        self._api.request("POST", "exchanges", self._api.vhost, exchange, "publish", body=content)

    def observe(self, keys_of: frozenset[str] = frozenset()) -> Observation:
        """Return an observation of the current state. ``keys_of`` are the queues whose messages are read."""
        assert self._project is not None  # noqa: S101 - for the type checker: the trial runs
        self._look()
        services = self._project.config.services
        rows = self._read(all_attempts, [])
        events = self._read(lambda read: find_events(read, limit=MOST)[0], [])
        slots = self.slots()
        return Observation(
            responses=list(self.customer.responses),
            ready=dict(self._ready),
            keys={name: self._keys(name, self._ready[name] or 0) for name in keys_of if self._can_read(name)},
            lines=list(self.log.read()),
            attempts=rows,
            events=events,
            slots=slots,
            consumes={name: list(one.consumes) for name, one in services.items()},
            payments=frozenset(name for name, one in services.items() if (one.plugin or name) == "payment"),
            notifications=frozenset(name for name, one in services.items() if (one.plugin or name) == "notification"),
            # A supervisor that does not answer in time has no slots.
            is_busy=self.background > 0 or self._silent_since is not None or not slots,
            outbox_waiting=self.outbox.waiting(),
        )

    def _look(self) -> None:
        """Read the number of ready messages. While the broker restarts, the numbers remain as they are.

        Raises BrokerError and BrokerRefused if the broker does not answer for BROKER_TIMEOUT seconds.
        """
        unknown: dict[str, str] = {}
        try:
            counts = look([self._url], self._queues, unknown)[1] if self._queues else {}
        except (BrokerError, BrokerRefused) as error:
            # A broker that is starting refuses a virtual host that it has not loaded yet.
            now = time.monotonic()
            self._silent_since, self._silence = self._silent_since or now, error
            if now - self._silent_since >= BROKER_TIMEOUT:
                raise
        else:
            self._silent_since = self._silence = None
            self._ready = {name: None if one is None else one.messages for name, one in counts.items()}

    def check_broker(self) -> None:
        """Raise the error of a broker that did not answer at the last observation."""
        if self._silence is not None:
            raise self._silence

    def _can_read(self, queue: str) -> bool:
        return self._silent_since is None and self._ready.get(queue) is not None

    def _read(self, query: Callable[[Any], list[Any]], default: list[Any]) -> list[Any]:
        with reading("sqlite:///var/fastcommerce.db", self.folder) as read:
            return default if read is None else query(read)

    def _keys(self, queue: str, ready: int) -> list[str]:
        # Each read is a delivery, and a quorum queue drops a message after 20 deliveries
        # (https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling). So only a change is read.
        known = self._known_keys.get(queue, [])
        if len(known) == ready:
            return known
        body = {"count": MOST, "ackmode": "ack_requeue_true", "encoding": "auto", "truncate": 1}
        found = self._api.request("POST", "queues", self._api.vhost, queue, "get", body=body)
        self._known_keys[queue] = [str(one["routing_key"]) for one in found]
        return self._known_keys[queue]

    def stop(self) -> None:
        """Kill the system. Nothing of a trial is needed any more, and its processes exit with the supervisor."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
