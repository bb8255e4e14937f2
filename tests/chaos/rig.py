"""The parts of a run with injected faults: a broker behind a proxy, a database, and the runner with its services."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import yaml

from tests.chaos.checker import Database
from tests.chaos.cluster import Cluster
from tests.chaos.disk import Disk, is_possible
from tests.chaos.proxy import Proxy
from tests.chaos.shop import Shop
from tests.postgres import Postgres
from tests.rabbit import Rabbit, wait_until
from tests.running import ROOT

#: Bytes of the disk that can become full: enough for the longest run.
DISK = 512 * 1024 * 1024
#: The environment variable that marks all descendants of the runner, so that remaining processes are found.
MARK = "CHAOS_MARK"


class Store(Protocol):
    """A database that can be locked, and whose disk can be filled."""

    url: str

    def lock(self, seconds: float) -> None:
        """Block all other writers for ``seconds``."""

    def fill(self) -> None:
        """Fill the disk."""

    def free(self) -> None:
        """Free the space again."""

    def close(self) -> None:
        """Close the database."""


class Sqlite:
    """A file on its own disk."""

    def __init__(self, folder: Path) -> None:
        self._disk = Disk(folder, DISK) if is_possible() else None
        folder.mkdir(exist_ok=True)
        self._path = folder / "shop.db"
        self.url = f"sqlite:///{self._path}"

    def lock(self, seconds: float) -> None:
        """Start a transaction that writes, and keep it open for ``seconds``."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(self._path, timeout=20, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")

    def fill(self) -> None:
        """Write ballast until the disk is full."""
        assert self._disk is not None
        self._disk.fill()

    def free(self) -> None:
        """Remove the ballast."""
        if self._disk is not None:
            self._disk.free()

    def close(self) -> None:
        """Unmount the disk."""
        if self._disk is not None:
            self._disk.close()


class Postgresql:
    """A private server whose tables are on their own disk."""

    def __init__(self, folder: Path) -> None:
        self._server = Postgres()
        self._disk: Disk | None = None
        self.url = self._server.make_database("shop")
        if is_possible():
            self._disk = Disk(folder, DISK)
            self._server.own(folder)
            self._server.make_tablespace("small", folder / "tables")
            self._server.execute("ALTER DATABASE shop SET default_tablespace = small", "postgres")

    def lock(self, seconds: float) -> None:
        """Lock all tables that the services write to. Reads are not affected."""
        import psycopg

        with psycopg.connect(self.url, connect_timeout=10) as connection:
            connection.execute("SET lock_timeout = '20s'")
            connection.execute("LOCK TABLE inbox, charges, emails, outbox, events IN EXCLUSIVE MODE")
            time.sleep(seconds)
            connection.rollback()

    def fill(self) -> None:
        """Write ballast until the disk is full."""
        assert self._disk is not None
        self._disk.fill()

    def free(self) -> None:
        """Remove the ballast."""
        if self._disk is not None:
            self._disk.free()

    def close(self) -> None:
        """Stop the server."""
        self._server.close()
        if self._disk is not None:
            self._disk.close()


class Rig:
    """All parts of a run, private and on loopback."""

    def __init__(self, folder: Path, database: str, *, is_cluster: bool = False) -> None:
        self.folder = folder
        self.runner: subprocess.Popen[bytes] | None = None
        self.is_closed = False
        self._undo = contextlib.ExitStack()
        try:
            self._make(folder, database, is_cluster=is_cluster)
        except BaseException:
            self.close()
            raise

    def _make(self, folder: Path, database: str, *, is_cluster: bool) -> None:
        self.rabbit = None if is_cluster else Rabbit(folder / "broker")
        self.cluster = Cluster(folder / "cluster") if is_cluster else None
        broker = self.rabbit or self.cluster
        assert broker is not None
        self._undo.callback(broker.stop)
        # In a cluster only nodes are killed, and clients connect to the nodes directly.
        targets = [] if self.rabbit is None else [("127.0.0.1", int(urlsplit(self.rabbit.url).port or 0))]
        self.proxy = Proxy(targets)
        self._undo.callback(self.proxy.close)
        self.store: Store = Postgresql(folder / "disk") if database == "postgresql" else Sqlite(folder / "disk")
        self._undo.callback(self.store.close)
        self.shop = Shop(folder / "shop", self.store.url)
        through = [f"amqp://guest:guest@127.0.0.1:{port}/" for port in self.proxy.ports]
        if is_cluster:
            self.shop.replicate()
        self._set_broker(self.cluster.urls if self.cluster is not None else through)
        self.database = Database(self.store.url)
        self._undo.callback(self.database.close)
        self.mark = uuid.uuid4().hex
        self.output = folder / "runner.log"

    def _set_broker(self, urls: Sequence[str]) -> None:
        path = self.shop.folder / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config["fault_injection"] = True
        config["broker"] |= {"url": list(urls)}
        if self.cluster is None:
            config["broker"]["management"] = self.management.rstrip("/")
        self.shop.set_config(config)

    @property
    def amqp(self) -> str:
        """The address of the broker itself, which no fault affects."""
        if self.rabbit is not None:
            return self.rabbit.url
        assert self.cluster is not None
        return self.cluster.urls[next(iter(self.cluster.running()), 0)]

    @property
    def management(self) -> str:
        """The address of RabbitMQ's HTTP API, which no fault affects."""
        return self.rabbit.management if self.rabbit is not None else self.cluster.management  # type: ignore[union-attr]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call the HTTP API. Raises OSError."""
        broker = self.rabbit or self.cluster
        assert broker is not None
        return broker.api(method, path, body)

    def start(self) -> None:
        """Start the runner, and wait until all slots run."""
        self.spawn()
        # Read the log first, because each status command is a process.
        wait_until(self._has_said_so, 60, "everything is RUNNING")
        wait_until(self.is_running, 60, "everything is RUNNING")

    def spawn(self) -> None:
        """Start the runner. Do nothing after ``close``."""
        if self.is_closed:
            return
        with self.output.open("ab") as output:
            self.runner = subprocess.Popen(
                [sys.executable, "-m", "runner"],
                cwd=self.shop.folder, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), MARK: self.mark},
            )  # fmt: skip

    def tell(self, *words: str, timeout: float = 60.0) -> tuple[int, str]:
        """Run a command of the product. Return its exit code and its output."""
        done = subprocess.run(
            [sys.executable, "-m", "runner", *words],
            cwd=self.shop.folder, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def is_running(self) -> bool:
        """Return True if all desired instances run."""
        assert self.runner is not None
        assert self.runner.poll() is None, f"the runner exited with code {self.runner.returncode}; see {self.output}"
        return self.tell("status", "--json")[0] == 0

    def _has_said_so(self) -> bool:
        assert self.runner is not None
        return self.runner.poll() is not None or b"everything is RUNNING" in self.output.read_bytes()

    def slots(self) -> list[dict[str, Any]]:
        """Return the slots as ``status`` reports them."""
        text = self.tell("status", "--json")[1]
        return list(json.loads(text).get("slots", [])) if text.startswith("{") else []

    def stop(self) -> tuple[int, list[str]]:
        """Stop the runner as Ctrl-C does. Return its exit code and the processes that are left."""
        assert self.runner is not None
        self.runner.send_signal(signal.SIGINT)
        code = self.runner.wait(30)
        deadline = time.monotonic() + 3.0
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return code, left

    def left(self) -> list[str]:
        """Return the command lines of live descendants of the runner."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state = (path / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and f"{MARK}={self.mark}".encode() in (path / "environ").read_bytes():
                    found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    def close(self) -> None:
        """Stop all remaining parts."""
        self.is_closed = True
        if self.runner is not None and self.runner.poll() is None:
            self.runner.kill()
            self.runner.wait(10)
        with contextlib.suppress(Exception):  # a part may be down because of a fault; the other parts are stopped
            self._undo.close()
