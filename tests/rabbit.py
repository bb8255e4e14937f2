"""A real RabbitMQ for the tests: private, on free ports, with a vhost for each test."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runner.address import Address
from runner.broker.find import PrivateNode, find_broker
from runner.broker.probe import Kind, probe
from runner.proc import read_stat
from tests.amqp import channel_to
from tests.ports import free_port
from tests.reaper import MARK

START_TIMEOUT = 60.0
#: All queues report their counts twice per second instead of every 5 s (RabbitMQ: "Configuration",
#: collect_statistics_interval). Quorum queues have a separate interval.
QUICK = "[{rabbit, [{collect_statistics_interval, 500}, {quorum_tick_interval, 500}]}].\n"
#: No queue reports its counts. RabbitMQ 4.3 lets an operator deny this deprecated feature, and the settings of
#: "Management Plugin" do the same in earlier versions. Messages of more than 1,000 bytes are refused.
LIMITS = """[
  {rabbit, [{permit_deprecated_features, #{management_metrics_collection => false}}, {max_message_size, 1000}]},
  {rabbitmq_management_agent, [{disable_metrics_collector, true}]},
  {rabbitmq_management, [{disable_management_stats, true}]}
].
"""
#: The group of the tests that share a RabbitMQ with these limits.
LIMITED = "broker with limits"


def wait_until(condition: Callable[[], Any], timeout: float = 20.0, what: str = "") -> Any:
    """Poll until ``condition`` returns a true value, and return that value."""
    began = time.monotonic()
    deadline = began + timeout
    while True:
        asked = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}")
        # The other processes of the machine need the time: poll less often in a long wait, and for at most half of it.
        pause = max(0.02, min(0.1, (now - began) / 10), now - asked)
        time.sleep(min(pause, 0.5, max(0.0, deadline - now)))


class Refusal(OSError):
    """A response of the HTTP API whose status is not 2xx."""

    def __init__(self, code: int, body: str) -> None:
        super().__init__(f"HTTP {code}: {body}")
        self.code, self.body = code, body


def ask(management: str, method: str, path: str, body: Any = None, timeout: float = 10.0) -> Any:
    """Call an HTTP API.

    Return the JSON of the response, or None. Raises Refusal, and OSError if there is no response.
    """
    request = urllib.request.Request(
        f"{management.rstrip('/')}/api{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": "Basic " + base64.b64encode(b"guest:guest").decode(),
            "Content-Type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            raw = response.read()
    except urllib.error.HTTPError as error:
        with error:
            raise Refusal(error.code, error.read().decode(errors="replace")) from None
    return json.loads(raw) if raw else None


def _alive_in(group: int) -> list[int]:
    """Return the live processes of a process group."""
    found = []
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == group and (stat := read_stat(pid)) is not None and not stat.has_ended:
                found.append(pid)
    return found


class Rabbit:
    """A private node, run by the product's own code. ``advanced`` is the text of its advanced.config."""

    def __init__(self, folder: Path, advanced: str = "") -> None:
        self.folder = folder
        if advanced:
            folder.mkdir(mode=0o700, parents=True)
            (folder / "advanced.config").write_text(advanced)
        port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{port}/"
        self._process: subprocess.Popen[bytes] | None = None
        #: The node lives as long as this object, even if a single test restarts it.
        self._mark = os.environ.get(MARK, "")
        self.start()

    def start(self) -> None:
        """Start the node and wait until it responds."""
        found = find_broker([self.url], True, self.folder)
        if not isinstance(found, PrivateNode):
            raise AssertionError(f"the tests need rabbitmq-server; found {found}")
        self.management = found.management_url
        self._log = self.folder.parent / f"{self.folder.name}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                found.command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **found.environment, MARK: self._mark},
            )
        try:
            wait_until(self.answers, START_TIMEOUT, "RabbitMQ answers")
        except BaseException:
            self.kill()
            raise

    def answers(self) -> bool:
        """Return True if its HTTP API and AMQP both respond."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"RabbitMQ exited during its start:\n{self._log.read_text(errors='replace')[-5000:]}")
        try:
            self.api("GET", "/overview")
        except OSError:
            return False
        return probe(Address.of(self.url)).kind is Kind.BROKER

    def stop(self) -> None:
        """Stop the node gracefully."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)

    def kill(self) -> None:
        """Kill the node as a power failure would."""
        assert self._process is not None
        os.killpg(group := self._process.pid, signal.SIGKILL)
        self._process.wait(20)
        # On a busy machine a large process exits late, and the next node could find its ports, name and files in use.
        wait_until(lambda: not _alive_in(group), 20, "all processes of the node have exited")

    def rabbitmqctl(self, *arguments: str) -> str:
        """Run rabbitmqctl for this node, with the command in the node's log. Return the output."""
        done = subprocess.run(
            ["sh", "-c", '. "$0"; exec "$@"', str(self.folder / "env"), "rabbitmqctl", *arguments],
            check=True,
            capture_output=True,
            timeout=60,
            env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/usr/lib/rabbitmq/bin"},
        )
        return done.stdout.decode()

    def api(self, method: str, path: str, body: Any = None, timeout: float = 10.0) -> Any:
        """Call the HTTP API."""
        return ask(self.management, method, path, body, timeout)

    @functools.cached_property
    def version(self) -> tuple[int, ...]:
        """Return the broker's major, minor and patch number."""
        number = str(self.api("GET", "/overview")["rabbitmq_version"]).partition("-")[0]
        return tuple(int(part) for part in number.split("."))

    def make_vhost(self, name: str) -> Vhost:
        """Create an empty vhost."""
        self.api("PUT", f"/vhosts/{quote(name, safe='')}")
        return Vhost(self, name)


class Vhost:
    """The vhost of one test."""

    def __init__(self, rabbit: Rabbit, name: str) -> None:
        self.rabbit, self.name = rabbit, name
        self.url = f"{rabbit.url}{quote(name, safe='')}"

    def _path(self, kind: str, name: str = "") -> str:
        return f"/{kind}/{quote(self.name, safe='')}" + (f"/{quote(name, safe='')}" if name else "")

    def queues(self) -> dict[str, Any]:
        """Return all queues by name."""
        return {queue["name"]: queue for queue in self.rabbit.api("GET", self._path("queues"))}

    def exchanges(self) -> dict[str, Any]:
        """Return all exchanges by name."""
        return {one["name"]: one for one in self.rabbit.api("GET", self._path("exchanges"))}

    def bindings(self) -> list[Any]:
        """Return all bindings except those of the default exchange."""
        return [one for one in self.rabbit.api("GET", self._path("bindings")) if one["source"]]

    def ready(self, queue: str) -> int:
        """Return the number of ready messages, as the queue itself reports it. No message is delivered."""
        with channel_to(self.url) as channel:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

    def messages(self, queue: str, count: int = 1000) -> list[Any]:
        """Return the messages of a queue, and leave them there.

        Each call delivers the messages and puts them back. RabbitMQ 4 allows 20 such deliveries in a quorum queue
        without a limit of its own (RabbitMQ: "Quorum Queues", "Repeated Requeues"). Poll ``ready`` first, and
        call this once.
        """
        body = {"count": count, "ackmode": "ack_requeue_true", "encoding": "auto"}
        answer: list[Any] = self.rabbit.api("POST", self._path("queues", queue) + "/get", body)
        return answer

    def delete_queue(self, queue: str) -> None:
        """Delete a queue."""
        self.rabbit.api("DELETE", self._path("queues", queue))

    def delete_exchange(self, exchange: str) -> None:
        """Delete an exchange."""
        self.rabbit.api("DELETE", self._path("exchanges", exchange))

    def connections(self) -> list[Any]:
        """Return the connections of this vhost that the statistics contain."""
        return [one for one in self.rabbit.api("GET", "/connections") if one.get("vhost") == self.name]

    def close_connections(self) -> int:
        """Close all connections, as an administrator would. Return their number."""
        names = [one["name"] for one in self.connections()]
        for name in names:
            try:
                self.rabbit.api("DELETE", f"/connections/{quote(name, safe='')}")
            except Refusal as error:
                if error.code != 404:
                    raise
        return len(names)

    def delete(self) -> None:
        """Delete the vhost with its queues and exchanges."""
        self.rabbit.api("DELETE", self._path("vhosts"))
