"""The classroom's own RabbitMQ, with a virtual host for each check, so that no running system is disturbed."""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runner.address import Address
from runner.admin.management_api import ManagementApi, ManagementError
from runner.broker.find import Startable, find_broker
from runner.broker.port import is_free
from runner.broker.probe import Kind, probe
from runner.cli.temporary_broker import start_process, stop_process
from runner.errors import AlreadyRunning, BrokerUnreachable, RunnerError
from runner.supervisor.lock import take_lock
from runner.supervisor.processes.process import Process

#: Seconds within which the broker of another command must answer.
START_TIMEOUT = 90.0
#: Seconds within which a broker that should be running must answer.
PROBE_TIMEOUT = 1.0
_FILE = "broker.json"
#: The first characters of the names of virtual hosts.
_PREFIX = "check-"
#: The range of ports. RabbitMQ uses two further ports, 10000 and 20000 above.
_PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class BrokerAddress:
    """The address of the classroom's broker. Its login is RabbitMQ's default login, because it listens on loopback."""

    port: int
    management_url: str

    def url(self, vhost: str = "") -> str:
        """Return the URL of a virtual host, by default of ``/``."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost}"


class ClassroomBroker:
    """A private RabbitMQ in a folder. All commands in this folder share this broker while one of them is running."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[str] | None = None
        self._process: Process | None = None
        self._found: Startable | None = None
        self._address: BrokerAddress | None = None

    def __enter__(self) -> ClassroomBroker:
        """Use the running broker, or start it. Raises RunnerError if no broker is running and none can be started."""
        self._open()
        return self

    def revive(self) -> None:
        """Find or start a broker again if the broker does not answer, for example after its command has exited.

        Raises the errors of ``__enter__``.
        """
        if self._address is not None and self._running() != self._address:
            self.__exit__()
            self._process = self._lock = self._address = None
            self._open()

    def _open(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while self._address is None:
            self._address = self._running()
            if self._address is not None:
                break
            try:
                self._lock = take_lock(self._folder)
            except AlreadyRunning:
                # Another command is starting the broker.
                if time.monotonic() >= deadline:
                    text = f"{self._folder}: the broker that another command started does not answer"
                    raise BrokerUnreachable(text) from None
                time.sleep(0.2)
            else:
                self._start(_free_port())
                self._delete_leftovers()

    def __exit__(self, *_: object) -> None:
        """Stop the broker if this command has started it."""
        if self._process is not None:
            stop_process(self._process)
        if self._lock is not None:
            (self._folder / _FILE).unlink(missing_ok=True)
            self._lock.close()

    @property
    def address(self) -> BrokerAddress:
        """The address of the running broker."""
        assert self._address is not None  # noqa: S101 - for the type checker: inside ``with``
        return self._address

    @property
    def is_own(self) -> bool:
        """True if this command has started the broker."""
        return self._process is not None

    @contextlib.contextmanager
    def vhost(self) -> Iterator[str]:
        """Yield the URL of a new virtual host, and delete it afterwards."""
        name = f"{_PREFIX}{secrets.token_hex(4)}"
        api = self._api()
        api.request("PUT", "vhosts", name)
        try:
            yield self.address.url(name)
        finally:
            # The next start of the broker deletes a virtual host that remains.
            with contextlib.suppress(ManagementError):
                api.request("DELETE", "vhosts", name)

    def _api(self) -> ManagementApi:
        return ManagementApi(self.address.url(), self.address.management_url)

    def _delete_leftovers(self) -> None:
        """Delete the virtual hosts of commands that were killed. An error changes nothing for a check."""
        api = self._api()
        with contextlib.suppress(ManagementError):
            for one in api.request("GET", "vhosts"):
                if str(one["name"]).startswith(_PREFIX):
                    api.request("DELETE", "vhosts", one["name"])

    def restart(self, seconds: float) -> None:
        """Kill the broker, and start it again on the same ports after ``seconds``.

        Raises RunnerError if another command has started the broker.
        """
        if self._process is None:
            raise RunnerError(
                f"{self._folder}: belongs to another learn command; stop that command, or check this exercise with it"
            )
        self._process.kill()
        self._process.reap()
        self._process = None
        time.sleep(seconds)
        self._start(self.address.port)

    def _start(self, port: int) -> None:
        found = find_broker([f"amqp://guest:guest@127.0.0.1:{port}/"], True, self._folder / "broker")
        assert isinstance(found, Startable)  # noqa: S101 - for the type checker: nothing listens on the port
        self._process = start_process(found)
        self._address = BrokerAddress(port, found.management_url)
        (self._folder / _FILE).write_text(json.dumps({"port": port, "management_url": found.management_url}), "utf-8")

    def _running(self) -> BrokerAddress | None:
        try:
            found = BrokerAddress(**json.loads((self._folder / _FILE).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        answer = probe(Address.of(found.url()), PROBE_TIMEOUT)
        return found if answer.kind is Kind.BROKER else None


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)
        if all(is_free(port + distance) for distance in (0, 10_000, 20_000)):
            return port
