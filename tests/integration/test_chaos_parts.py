"""The parts of the chaos run: the proxy, the disk, the chart and the cluster."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from runner.admin.declaration import declare
from runner.amqp.io_thread import IoThread
from runner.amqp.publisher import Publisher
from runner.errors import BrokerError
from runner.messages import Event
from runner.topology.model import Objects, Queue
from tests import amqp
from tests.chaos import disk
from tests.chaos.chart import Sample, chart
from tests.chaos.cluster import SIZE, Cluster
from tests.chaos.proxy import Proxy
from tests.proof import IS_FULL
from tests.rabbit import wait_until
from tests.running import Project

#: The short form has only the cluster test that found a bug of the product.
IN_FULL = pytest.mark.skipif(not IS_FULL, reason="a part of make chaos-full")


class Echo:
    """An echo server."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                thread = threading.Thread(target=self._echo, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _echo(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while data := client.recv(65536):
                client.sendall(data)

    def close(self) -> None:
        for one in (self._listener, *self._clients):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def echo() -> Iterator[Echo]:
    one = Echo()
    yield one
    one.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    one = Proxy([echo.address])
    yield one
    one.close()


def connect(proxy: Proxy, timeout: float = 5.0) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.ports[0]), timeout)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def take(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := client.recv(65536)):
        data += more
    return data


def passes(proxy: Proxy) -> bool:
    with contextlib.suppress(OSError), connect(proxy, 1.0) as client:
        client.sendall(b"hello")
        return take(client, 5) == b"hello"
    return False


def test_the_proxy_forwards_bytes_in_order_and_the_close(proxy: Proxy) -> None:
    data = bytes(range(256)) * 20_000
    with connect(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        assert take(client, len(data)) == data
        sender.join(5)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        wait_until(lambda: proxy.connections == 0, 5, "both sides are closed")


def test_ten_thousand_messages_pass_in_a_second(proxy: Proxy) -> None:
    message, count = b"x" * 800, 10_000
    with connect(proxy) as client:

        def send() -> None:
            for _ in range(count):
                client.sendall(message)

        sender, started = threading.Thread(target=send), time.monotonic()
        sender.start()
        assert len(take(client, count * len(message))) == count * len(message)
        seconds = time.monotonic() - started
        sender.join(5)
    print(f"{count / seconds:.0f} messages/s")
    assert seconds < 2.0, "a machine that does much else takes longer, but not that much"


def test_a_cut_resets_connections_and_refuses_new_connections_until_it_expires(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"a")
        assert take(client, 1) == b"a"
        proxy.cut(0.5)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert proxy.connections == 0
    wait_until(lambda: passes(proxy), 5, "bytes pass again")


def test_a_black_hole_is_silent_and_connections_that_lost_bytes_never_recover(proxy: Proxy) -> None:
    with connect(proxy) as old, connect(proxy) as idle:
        old.sendall(b"a")
        assert take(old, 1) == b"a"
        wait_until(lambda: proxy.connections == 2, 5, "both are connected")
        proxy.blackhole(60)
        old.sendall(b"b")
        with connect(proxy) as new:
            new.sendall(b"c")
            for one in (old, new):
                one.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    one.recv(1)
        assert proxy.connections == 3, "the target's side of a closed one does not know of it"
        proxy.heal()
        wait_until(lambda: proxy.connections == 2, 5, "and then it does")
        old.sendall(b"d")
        with pytest.raises(TimeoutError):
            old.recv(1)
        idle.sendall(b"e")
        assert take(idle, 1) == b"e"


def test_a_slow_proxy_delays_each_direction_and_keeps_the_order_afterwards(proxy: Proxy) -> None:
    with connect(proxy) as client:
        proxy.slow(0.15, 60)
        started = time.monotonic()
        client.sendall(b"a")
        assert take(client, 1) == b"a"
        assert time.monotonic() - started >= 0.3
        client.sendall(b"b")
        proxy.heal()
        client.sendall(b"c")
        assert take(client, 2) == b"bc"


def test_slices_are_small_and_lose_nothing(proxy: Proxy) -> None:
    data = bytes(range(256)) * 8
    with connect(proxy) as client:
        proxy.slice(60, 3)
        client.sendall(data)
        got, sizes = b"", set()
        while len(got) < len(data):
            piece = client.recv(65536)
            sizes.add(len(piece))
            got += piece
        assert got == data
        assert min(sizes) <= 3


def test_a_client_of_an_unreachable_target_is_reset_and_each_target_has_its_port(echo: Echo) -> None:
    with contextlib.closing(Proxy([echo.address, ("127.0.0.1", 1)])) as proxy:
        assert passes(proxy)
        with pytest.raises(ConnectionResetError), socket.create_connection(("127.0.0.1", proxy.ports[1]), 5) as client:
            client.recv(1)


def test_connections_during_a_cut_are_all_closed(echo: Echo) -> None:
    with contextlib.closing(Proxy([echo.address])) as proxy:
        stop = threading.Event()

        def connect_on() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError), connect(proxy) as client:
                    client.sendall(b"x")

        threads = [threading.Thread(target=connect_on, daemon=True) for _ in range(2)]
        for one in threads:
            one.start()
        try:
            for _ in range(50):
                proxy.cut(0.01)
                proxy.heal()
        finally:
            stop.set()
            for one in threads:
                one.join(10)
        wait_until(lambda: proxy.connections == 0, 5, "all are closed")
        assert passes(proxy)


def test_a_closed_proxy_leaves_no_thread_and_releases_its_ports(echo: Echo) -> None:
    first = Proxy([echo.address])
    with connect(first) as client:
        client.sendall(b"a")
        assert take(client, 1) == b"a"
        first.close()
        first.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert "proxy" not in {thread.name for thread in threading.enumerate()}
    with contextlib.closing(Proxy([echo.address], first.ports)) as second:
        assert second.ports == first.ports
        assert passes(second)


FILLS_A_DISK = """
import errno, os, sys, time
from pathlib import Path
import disk

if not disk.enter():
    sys.exit(77)
one = disk.Disk(Path("small"), 4 << 20)
with open("small/data", "wb", buffering=0) as file:
    file.write(bytes(4096))
    one.fill()
    try:
        file.write(bytes(4096))
    except OSError as error:
        print(errno.errorcode[error.errno], one.left, flush=True)
    one.free()
    print(file.write(bytes(4096)), os.getuid(), os.getpid(), flush=True)
if "stay" in sys.argv:
    time.sleep(60)
one.close()
print(os.listdir("small"), flush=True)
"""


@pytest.fixture(params=["oneself", "nobody"])
def program(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Yield a program that fills a disk, and its folder. The program runs as this user or without rights."""
    # Only their owner can enter pytest's folders.
    folder = Path(tempfile.mkdtemp(prefix="fastcommerce-disk-"))
    rights: dict[str, Any] = {}
    python = sys.executable
    if request.param == "nobody":
        found = shutil.which("python3", path="/usr/bin")
        if os.geteuid() != 0 or found is None:
            pytest.skip("only root may run it as nobody, and that needs a Python outside of root's home")
        python, user = found, pwd.getpwnam("nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
        rights = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    shutil.copy(disk.__file__, folder)
    (folder / "fills.py").write_text(FILLS_A_DISK)
    (folder / "fills.py").chmod(0o644)
    command = [python, "-B", "fills.py", "stay"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, **rights) as process:
        yield process, folder
        process.kill()
    shutil.rmtree(folder)


def test_a_full_disk_refuses_bytes_until_it_is_freed_and_disappears_with_a_killed_run(
    program: tuple[subprocess.Popen[str], Path],
) -> None:
    process, folder = program
    assert process.stdout is not None
    first = process.stdout.readline().split()
    if not first and process.wait(10) == 77:
        pytest.skip("no mount namespaces here")
    assert first == ["ENOSPC", "0"]
    count, _, pid = map(int, process.stdout.readline().split())
    assert (count, pid) == (4096, process.pid)
    assert list((folder / "small").iterdir()) == [], "its mount is not ours"
    assert f"{folder}/small" in Path(f"/proc/{pid}/mounts").read_text()
    process.kill()
    process.wait(10)
    assert f"{folder}/small" not in Path("/proc/mounts").read_text()


def test_a_disk_that_would_outlive_its_run_is_not_created(tmp_path: Path) -> None:
    assert not disk.is_possible()
    with pytest.raises(RuntimeError, match="call enter"):
        disk.Disk(tmp_path / "small", 1 << 20)


def test_a_chart_lists_all_kinds_with_their_counts_and_is_well_formed() -> None:
    samples = [Sample(at, at * 100, at * 90, 10 * (at % 50)) for at in range(600)]
    faults = [(at, "worker killed", 0.0) for at in range(5, 500, 50)] + [(100.0, "a <broker> & more", 8.0)]
    drawing = chart(samples, faults, "Orders & <faults>")
    root = ET.fromstring(drawing)
    texts = ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "Orders & <faults>" in texts
    assert "worker killed  10" in texts
    assert "a <broker> & more  1" in texts
    assert "59\N{NARROW NO-BREAK SPACE}900 orders answered 202" in texts[1]
    assert {"orders per second", "messages", "time since the start (min:s)", "0:00", "9:00"} <= set(texts)
    ticks = [one for one in root.iter("{http://www.w3.org/2000/svg}line") if one.get("class") == "tick"]
    assert len(ticks) == len(faults)


def test_a_chart_accepts_a_run_without_faults_or_orders_and_refuses_a_single_sample() -> None:
    ET.fromstring(chart([Sample(0.0, 0, 0, 0), Sample(0.5, 0, 0, 0)], [], "nothing"))
    with pytest.raises(ValueError, match="at least two"):
        chart([Sample(0.0, 0, 0, 0)], [], "nothing")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield three nodes that the tests of this module share. Each test leaves all nodes running."""
    one = Cluster(tmp_path_factory.mktemp("cluster"))
    yield one
    one.stop()


def leader_of(cluster: Cluster, queue: str) -> int:
    wait_until(lambda: cluster.leader_of(queue) is not None, 10, "it has a leader")
    leader = cluster.leader_of(queue)
    assert leader is not None
    return leader


def publish(url: str, queue: str, count: int) -> None:
    """Publish numbered messages. Raises pika's errors."""
    with amqp.channel_to(url) as channel:
        for number in range(count):
            amqp.publish(channel, "", queue, str(number).encode(), mandatory=True)


def empty(url: str, queue: str) -> list[bytes]:
    """Consume all messages of a queue, and return their bodies."""
    with amqp.channel_to(url) as channel:
        bodies = []
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            bodies.append(got[2])
        return bodies


@IN_FULL
@pytest.mark.timeout(300)
def test_a_cluster_survives_a_kill_of_its_leader_and_the_node_joins_again(cluster: Cluster) -> None:
    cluster.wait_whole(120)
    cluster.api("PUT", "/queues/%2F/kept", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
    cluster.wait_whole(30)
    leader = leader_of(cluster, "kept")
    publish(cluster.urls[leader], "kept", 300)
    killed = time.monotonic()
    cluster.kill(leader)
    assert cluster.running() == [one for one in range(SIZE) if one != leader]
    others = [url for number, url in enumerate(cluster.urls) if number != leader]

    def publishes() -> bool:
        with contextlib.suppress(pika.exceptions.AMQPError):
            publish(others[0], "kept", 1)
            return True
        return False

    wait_until(publishes, 10, "publishing goes on")
    print(f"publishing went on after {time.monotonic() - killed:.2f} s")
    assert not cluster.is_whole()
    assert cluster.leader_of("kept") != leader
    cluster.start(leader)
    cluster.wait_whole(120)
    bodies = empty(cluster.urls[leader], "kept")
    assert set(bodies) >= {str(number).encode() for number in range(300)}
    assert len(bodies) >= 301


@IN_FULL
@pytest.mark.timeout(300)
@pytest.mark.kills_broker
def test_a_publisher_whose_first_event_meets_a_dead_leader_is_confirmed_before_that_node_is_back(
    cluster: Cluster,
) -> None:
    cluster.wait_whole(120)
    declare(cluster.urls, Objects(queues=(Queue("first", True, {"x-queue-type": "quorum"}),)))
    cluster.wait_whole(30)
    leader = leader_of(cluster, "first")
    io = IoThread(on_crash=lambda: None)
    io.start()
    # The address of a node that is not the leader. It is listed twice, so that the publisher has a second address to
    # try.
    publisher = Publisher(io, 2 * [cluster.urls[leader - 1]], "test", lambda _: None, lambda _: None)
    publisher.start()
    wait_until(lambda: publisher.problem() is None, 10, "connected")
    cluster.kill(leader)
    errors = []

    def is_confirmed() -> bool:
        try:
            publisher.publish(Event("first", {}, routing_key="first")).result(10)
        except BrokerError as error:
            errors.append(error)
            return False
        return True

    wait_until(is_confirmed, 8, "an event is confirmed")
    print(f"refused {len(errors)} times: {set(map(str, errors))}")
    closed = threading.Event()
    io.call(lambda: publisher.close(closed.set))
    assert closed.wait(5)
    io.stop(5)
    cluster.start(leader)
    cluster.wait_whole(120)


@IN_FULL
@pytest.mark.timeout(300)
def test_commands_use_another_node_if_the_first_is_unreachable(cluster: Cluster, project: Project) -> None:
    cluster.wait_whole(120)
    config, topology = project.config(), project.topology()
    config["broker"] = {"url": cluster.urls, "autostart": False}
    topology["retire"] = {"queues": ["old"]}
    project.set_config(config)
    project.set_topology(topology)
    cluster.api("PUT", "/queues/%2F/old", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
    cluster.wait_whole(30)
    cluster.kill(0)
    for command in (("plan",), ("apply",), ("plan",), ("import", "live")):
        runner = project.run(*command)
        code = runner.process.wait(60)
        assert code == (2 if command == ("plan",) and not _is_retired(cluster) else 0), runner.output
    assert _is_retired(cluster)
    cluster.start(0)
    cluster.wait_whole(120)


def _is_retired(cluster: Cluster) -> bool:
    return "old" not in {one["name"] for one in cluster.api("GET", "/queues")}


@IN_FULL
@pytest.mark.timeout(300)
def test_a_cluster_whose_nodes_were_all_killed_restarts_with_its_messages(cluster: Cluster) -> None:
    cluster.wait_whole(120)
    cluster.api("PUT", "/queues/%2F/cold", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
    cluster.wait_whole(30)
    publish(cluster.urls[0], "cold", 50)
    # RabbitMQ may lose a queue that is younger than a second, see runner/admin/declaration.py.
    settled = time.monotonic() + 1.5
    wait_until(lambda: time.monotonic() > settled, 5)
    for number in range(SIZE):
        cluster.kill(number)
    with pytest.raises(OSError, match="no node is running"):
        cluster.api("GET", "/overview")
    for number in reversed(range(SIZE)):
        cluster.start(number)
    cluster.wait_whole(120)
    assert len(empty(cluster.urls[2], "cold")) == 50
