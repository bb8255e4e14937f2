"""A cluster of three RabbitMQ nodes on this machine. Each node can be killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runner.address import Address
from runner.admin.management_api import PORT_DISTANCE
from runner.broker.folder import Folder
from runner.broker.installation import installed_server
from runner.broker.node_process import start_epmd, stop_epmd
from runner.broker.port import Ports, is_free
from runner.broker.probe import Kind, probe
from tests.chaos.member import HOST
from tests.ports import free_port
from tests.rabbit import Refusal, ask, wait_until
from tests.reaper import MARK

SIZE = 3
#: Seconds for a node to start on a busy machine.
START_TIMEOUT = 120.0
_ROOT = Path(__file__).parent.parent.parent
#: The nodes find each other by this list. A node without a majority pauses, so that two parts of a cluster never both
#: accept messages (RabbitMQ: "Cluster Formation and Peer Discovery", "Clustering and Network Partitions").
_ADVANCED = "[{{rabbit, [{{cluster_nodes, {{[{names}], disc}}}}, {{cluster_partition_handling, pause_minority}}]}}].\n"


class Cluster:
    """Three nodes on loopback, with all their files below ``folder``. The constructor waits until they form a cluster.

    Nodes are numbered from 0. The HTTP API of a node is at its AMQP port plus 10000, as usual.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folders = [Folder(folder / f"node{number}") for number in range(SIZE)]
        self._ports = [_free_ports() for _ in range(SIZE)]
        self.urls = [f"amqp://guest:guest@{HOST}:{one.amqp}/" for one in self._ports]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        #: The nodes live as long as this object, even if a single test restarts one of them.
        self._mark = os.environ.get(MARK, "")
        self._epmd_port = free_port()
        self._write_files()
        self._epmd = start_epmd(self._folders[0], self._epmd_port)
        try:
            if self._version() < (4,):
                # Start the first node alone: nodes that start at the same time for the first time may form two
                # clusters.
                self.start(0)
                self._wait_answers(0)
            # Since 4.0 each node waits for the others in its list, and one node forms the cluster (RabbitMQ: "Cluster
            # Formation and Peer Discovery", "Peer Discovery Backend: Classic Config").
            for number in range(SIZE):
                self.start(number)
            self.wait_whole(START_TIMEOUT)
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def _version() -> tuple[int, ...]:
        server = installed_server()
        assert server is not None, "the tests need rabbitmq-server: apt-get install rabbitmq-server"
        return tuple(int(part) for part in server.version.partition("-")[0].split("."))

    def _write_files(self) -> None:
        cookie = secrets.token_hex(20)
        advanced = _ADVANCED.format(names=", ".join(f"'{one.node_name}'" for one in self._folders))
        for one in self._folders:
            one.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A node with an old file would not join a new cluster.
            path = one.home / ".erlang.cookie"
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            path.write_text(cookie)
            path.chmod(0o400)
            (one.path / "advanced.config").write_text(advanced)

    @property
    def management(self) -> str:
        """The address of the HTTP API of the first running node."""
        return self._management(next(iter(self.running()), 0))

    def _management(self, number: int) -> str:
        return f"http://{HOST}:{self._ports[number].management}"

    def start(self, number: int) -> None:
        """Start a node without waiting. Do nothing if it runs."""
        if self.is_running(number):
            return
        ports = self._ports[number]
        command = [
            *(sys.executable, "-m", "tests.chaos.member", "--folder", str(self._folders[number].path)),
            *("--epmd-port", str(self._epmd_port), "--port", str(ports.amqp)),
            *("--management-port", str(ports.management), "--distribution-port", str(ports.distribution)),
        ]
        with (self.folder / f"node{number}.log").open("ab") as log:
            self._processes[number] = subprocess.Popen(
                command,
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, MARK: self._mark},
            )

    def kill(self, number: int) -> None:
        """Kill a node with all its processes, as a power failure would."""
        process = self._processes[number]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        self._reap(process)

    def is_running(self, number: int) -> bool:
        """Return True if a node's process is alive. The node may still be starting."""
        return number in self._processes and self._processes[number].poll() is None

    def running(self) -> list[int]:
        """Return the nodes whose processes are alive."""
        return [number for number in range(SIZE) if self.is_running(number)]

    def api(self, method: str, path: str, body: Any = None, timeout: float = 10.0) -> Any:
        """Call the HTTP API of the first reachable node. Raises Refusal, and OSError if no node is reachable."""
        problem = OSError("cluster: no node is running")
        for number in self.running():
            try:
                return ask(self._management(number), method, path, body, timeout)
            except Refusal:
                raise
            except OSError as error:
                problem = error
        raise problem

    def leader_of(self, queue: str, vhost: str = "/") -> int | None:
        """Return the node of a quorum queue's leader, or None if the queue has no leader."""
        path = f"/queues/{quote(vhost, safe='')}/{quote(queue, safe='')}"
        names = [one.node_name for one in self._folders]
        leader = self.api("GET", path).get("leader")
        return names.index(leader) if leader in names else None

    def is_whole(self) -> bool:
        """Return True if all nodes form one cluster and each quorum queue has an online member on each node."""
        try:
            nodes = {one["name"] for one in self.api("GET", "/nodes") if one["running"]}
            queues = self.api("GET", "/queues")
        except OSError:
            return False
        names = {one.node_name for one in self._folders}
        members = [set(one.get("online", ())) for one in queues if one.get("type") == "quorum"]
        return nodes == names and all(one == names for one in members) and all(map(self._answers, range(SIZE)))

    def wait_whole(self, timeout: float) -> None:
        """Wait until ``is_whole``. Raises AssertionError if a node has exited, or after ``timeout`` seconds."""

        def whole() -> bool:
            ended = [number for number in self._processes if not self.is_running(number)]
            assert not ended, f"nodes {ended} are not running; see {self.folder}"
            return self.is_whole()

        wait_until(whole, timeout, "one cluster of all nodes, with all queue members online")

    def _wait_answers(self, number: int) -> None:
        def answers() -> bool:
            assert self.is_running(number), f"node {number} exited during its start; see {self.folder}"
            return self._answers(number)

        wait_until(answers, START_TIMEOUT, f"node {number} answers")

    def _answers(self, number: int) -> bool:
        try:
            ask(self._management(number), "GET", "/overview", None, 5.0)
        except OSError:
            return False
        return probe(Address.of(self.urls[number])).kind is Kind.BROKER

    def stop(self) -> None:
        """Stop all nodes, gracefully if that takes only a few seconds. A second call does nothing."""
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            self._reap(process)
        stop_epmd(self._epmd)

    @staticmethod
    def _reap(process: subprocess.Popen[bytes]) -> None:
        process.wait(20)
        if process.stdin is not None:
            process.stdin.close()


def _free_ports() -> Ports:
    amqp = next(port for port in iter(free_port, 0) if is_free(port + PORT_DISTANCE))
    return Ports(amqp, amqp + PORT_DISTANCE, free_port())
