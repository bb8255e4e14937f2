"""The private node with the real RabbitMQ: its addresses, its data and its processes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pika
import pika.exceptions
import pytest

from runner.broker.find import Answering, PrivateNode, find_broker
from runner.broker.port import is_free
from runner.errors import EXIT_CONFIG, EXIT_FAILURE
from runner.ipc.lifeline import VARIABLE
from tests.amqp import channel_to, publish
from tests.ports import free_port
from tests.rabbit import wait_until

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 60.0
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


class Run:
    """A run of ``python -m runner.broker.node`` under a supervisor that only listens."""

    def __init__(
        self,
        folder: Path,
        port: int,
        password: str = "guest",
        python: str = sys.executable,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.port, self.password = folder, port, password
        ours, theirs = socket.socketpair()
        self._lifeline = ours
        command = [python, "-m", "runner.broker.node", "--folder", str(folder), "--port", str(port)]
        self.management_port, self.distribution_port = free_port(), free_port()
        command += ["--management-port", str(self.management_port)]
        command += ["--distribution-port", str(self.distribution_port)]
        self.process = subprocess.Popen(
            [*prefix, *command],
            cwd=ROOT,
            env={
                **os.environ,
                VARIABLE: str(theirs.fileno()),
                "RABBITMQ_DEFAULT_USER": "anna",
                "RABBITMQ_DEFAULT_PASS": password,
                "RABBITMQ_DEFAULT_VHOST": "shop",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self.url = f"amqp://anna:{quote(password, safe='')}@127.0.0.1:{port}/shop"
        self.output, self.words = bytearray(), bytearray()
        self._threads = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_words, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            while data := os.read(stream.fileno(), 4096):
                self.output += data

    def _read_words(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._lifeline.recv(4096):
                self.words += data

    def wait_ready(self) -> Run:
        """Wait for READY. Fails at once if the process exits instead."""

        def is_ready() -> bool:
            assert self.process.poll() is None, self.output.decode()
            return b"READY=1\n" in self.words

        wait_until(is_ready, START_SECONDS, "READY=1")
        # RabbitMQ 4.3 answers 500 for a moment after AMQP answers. No client that waits for READY may see that.
        api = f"http://127.0.0.1:{self.management_port}/api/overview"
        login = base64.b64encode(f"anna:{self.password}".encode()).decode()
        with urllib.request.urlopen(urllib.request.Request(api, headers={"Authorization": f"Basic {login}"})) as answer:
            assert json.loads(answer.read())["rabbitmq_version"]
        return self

    def processes(self) -> set[int]:
        """Return all processes that this run started, including its own."""
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def end(self, how: signal.Signals = signal.SIGTERM, *, group: bool = False) -> int:
        """Send a signal, and wait until the process and all its descendants are gone."""
        started = self.processes()
        (os.killpg if group else os.kill)(self.process.pid, how)
        code = self.process.wait(20)
        wait_until(lambda: not alive(started), 20, f"processes of the node are gone: {alive(started)}")
        return code

    def close(self) -> None:
        """Kill all processes that a failed test left."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
        for thread in self._threads:
            thread.join(20)
        self._lifeline.close()


def alive(pids: set[int]) -> dict[int, str]:
    """Return the processes that still run, with their command lines."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if command:
                found[pid] = command
    return found


def listening(pids: set[int]) -> dict[int, set[str]]:
    """Return the ports on which these processes listen, each with its addresses as the kernel writes them."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.update(re.findall(r"socket:\[(\d+)\]", str(link.readlink())))
    ports: dict[int, set[str]] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, _, port = fields[1].rpartition(":")
                ports.setdefault(int(port, 16), set()).add(address)
    return ports


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    """Return a list of runs to stop after the test, even if the test fails."""
    one: list[Run] = []
    yield one
    for run in one:
        run.close()


def put(run: Run, text: str) -> None:
    """Publish a persistent, confirmed message to a quorum queue and to a classic queue."""
    with channel_to(run.url) as channel:
        for queue, arguments in (("quorum", {"x-queue-type": "quorum"}), ("classic", {})):
            channel.queue_declare(queue, durable=True, arguments=arguments)
            publish(channel, "", queue, text.encode(), pika.BasicProperties(delivery_mode=2), mandatory=True)
    # RabbitMQ writes the registration of a new quorum queue half a second after it confirms the declaration. If the
    # node is killed before that, the queue has no leader ever again.
    registrations = next(run.folder.glob("data/*/quorum/*/names.dets"))
    wait_until(lambda: b"shop_quorum" in registrations.read_bytes(), what="the new queue is registered on disk")


def get(run: Run) -> list[str]:
    """Consume one message from each of the two queues."""
    with channel_to(run.url) as channel:
        return [channel.basic_get(queue, auto_ack=True)[2].decode() for queue in ("quorum", "classic")]


def test_node_listens_on_loopback_only_keeps_its_data_and_leaves_no_process_after_kills(
    tmp_path: Path, runs: list[Run]
):
    folder, port = tmp_path / "with a space", free_port()
    first = Run(folder, port, "p@ss w/rd")
    runs.append(first)
    first.wait_ready()

    words = first.words.decode()
    assert words.index("STATUS=starting RabbitMQ") < words.index("READY=1")
    assert f"127.0.0.1:{port}, management http://127.0.0.1:{first.management_port}, user 'anna'" in words
    ports = listening(first.processes())
    assert {port, first.management_port, first.distribution_port} <= set(ports)
    assert len(ports) == 4, "and epmd's"
    assert set().union(*ports.values()) <= LOOPBACK
    assert not any("p@ss" in command for command in alive(first.processes()).values())
    with urllib.request.urlopen(f"http://127.0.0.1:{first.management_port}/", timeout=10) as page:
        assert page.status == 200
    listed = subprocess.run(
        ["/bin/sh", "-c", '. "$0"; rabbitmqctl -q list_users', str(folder / "env")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert re.findall(r"^(\w+)\t\[administrator\]$", listed.stdout, re.M) == ["anna"]
    put(first, "kept")

    with channel_to(first.url):
        started = time.monotonic()
        assert first.end() == 0
        assert time.monotonic() - started < 8
    assert is_free(port)

    second = Run(folder, port, "new")
    runs.append(second)
    second.wait_ready()
    assert get(second) == ["kept", "kept"], "and the changed password of the URL is let in"
    refused = Run(folder, free_port())
    runs.append(refused)
    assert refused.process.wait(20) == EXIT_FAILURE
    wait_until(lambda: b"one node per folder" in refused.output)
    put(second, "kept when all is killed")
    second.end(signal.SIGKILL, group=True)

    third = Run(folder, port, "new")
    runs.append(third)
    third.wait_ready()
    assert get(third) == ["kept when all is killed"] * 2
    assert find_broker([third.url], True, folder) == Answering(third.url)
    put(third, "kept when the parent is killed")
    pids = third.processes()
    # Only the parent is killed, so no process can stop the node. The node must notice by itself.
    os.kill(third.process.pid, signal.SIGKILL)
    third.process.wait(20)
    found = find_broker([third.url], True, folder)
    assert isinstance(found, PrivateNode), "the node that still answers is about to stop"

    fourth = Run(folder, port, "new")
    runs.append(fourth)
    fourth.wait_ready()
    assert get(fourth) == ["kept when the parent is killed"] * 2
    assert not alive(pids)
    pids = fourth.processes()
    os.kill(int((folder / "node.pid").read_text()), signal.SIGKILL)
    assert fourth.process.wait(20) == EXIT_FAILURE
    wait_until(lambda: b"exited unexpectedly with signal 9" in fourth.output)
    wait_until(lambda: not alive(pids), 20, "processes of the ended node are gone")


def test_ordinary_user_runs_a_node_on_a_host_without_name_resolution(runs: list[Run]):
    if os.geteuid() != 0 or not shutil.which("setpriv") or not shutil.which("unshare"):
        pytest.skip("becoming another user on another host needs root, setpriv and unshare")
    user = pwd.getpwnam("nobody")
    identity = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    check = "import sys, runner.broker.node; sys.exit(sys.version_info < (3, 11))"
    pythons = [
        name
        for name in (sys.executable, "/usr/bin/python3")
        if subprocess.run([*identity, name, "-c", check], cwd=ROOT, capture_output=True, check=False).returncode == 0
    ]
    if not pythons:
        pytest.skip("no Python here that an ordinary user can run this project with")
    # Other users cannot read the folders of pytest.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, user.pw_uid, user.pw_gid)
        # Even localhost has no address there, like on a small system without /etc/hosts.
        strip = 'hostname unknown.invalid && mount --bind /dev/null /etc/hosts && exec "$@"'
        host = ("unshare", "--uts", "--mount", "/bin/sh", "-c", strip, "sh")
        run = Run(folder / "broker", free_port(), python=pythons[0], prefix=(*host, *identity))
        runs.append(run)
        run.wait_ready()
        put(run, "here")
        assert get(run) == ["here", "here"]
        assert {path.owner() for path in (folder / "broker").iterdir()} == {"nobody"}
        assert run.end(signal.SIGINT, group=True) == 0, "as Ctrl-C in a terminal does"


def test_port_of_another_program_is_reported_in_one_line(tmp_path: Path, runs: list[Run]):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        run = Run(tmp_path / "broker", port)
        runs.append(run)
        assert run.process.wait(20) == EXIT_FAILURE

    reason = f"private broker: the AMQP port 127.0.0.1:{port} is in use"
    wait_until(lambda: reason.encode() in run.output and f"STATUS={reason}".encode() in run.words)


def test_stop_while_starting_leaves_no_process(tmp_path: Path, runs: list[Run]):
    run = Run(tmp_path / "broker", free_port())
    runs.append(run)
    wait_until((run.folder / "node.pid").exists)

    assert run.end() == 0


def test_broken_configuration_is_fatal(tmp_path: Path, runs: list[Run]):
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "advanced.config").write_text("[")
    run = Run(folder, free_port())
    runs.append(run)

    assert run.process.wait(60) == EXIT_CONFIG
    wait_until(lambda: b"advanced.config" in run.output)


def test_address_that_other_machines_reach_is_refused(tmp_path: Path):
    command = [sys.executable, "-m", "runner.broker.node", "--folder", str(tmp_path), "--host", "0.0.0.0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)

    assert done.returncode == EXIT_CONFIG
    assert done.stderr == "--host: '0.0.0.0' is not a loopback address; allowed: 127.0.0.1, ::1\n"
