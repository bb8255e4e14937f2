"""The live data of one running system: steps with their orders, totals that survive kills, and the timeline."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.supervisor.control import socket_path
from runner.supervisor.control.client import post_note, watch
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import ALICE, Project, Runner

pytestmark = pytest.mark.xdist_group("live steps")  # all tests of this module share a system

#: A handler that fails in the first attempt on an order of 13, and always on an order of 66.
MOODY = """from runner import Reject, Retry, hookimpl

@hookimpl
def handle(message):
    amount = float(message.json()["amount"])
    if amount == 13 and message.attempt == 1:
        raise Retry("once more")
    if amount == 66:
        raise Reject("never")
"""
ORDERS, MOODY_QUEUE, DEAD = "payment.order.created", "moody.orders", "moody.orders.dlq"


class Watching:
    """A client that watches the system on a thread, and keeps its snapshots."""

    def __init__(self, folder: Path) -> None:
        self.snapshots: list[dict[str, Any]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(folder,), daemon=True)
        self._thread.start()
        wait_until(lambda: self.snapshots, 10, "the first snapshot")

    def _run(self, folder: Path) -> None:
        with contextlib.closing(watch(folder)) as snapshots:
            for one in snapshots:
                self.snapshots.append(one)
                if self._is_over.is_set():
                    return

    def close(self) -> None:
        """Stop watching."""
        self._is_over.set()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def steps(self, order: str = "") -> list[list[Any]]:
        """Return the steps so far, or those of one order, without their times and slots."""
        return [one[2:] for snapshot in list(self.snapshots) for one in snapshot["steps"] if order in ("", one[5])]

    def timeline(self) -> list[tuple[str, str, str]]:
        """Return the timeline so far."""
        return [
            (one["kind"], one["subject"], one["text"])
            for snapshot in list(self.snapshots)
            for one in snapshot["timeline"]
        ]

    def count(self, slot: str, kind: str) -> int:
        """Return the number of a slot's steps of one kind in the last snapshot."""
        slots = [one for one in self.snapshots[-1]["slots"] if one["slot"] == slot]
        return sum(edge[3] for one in slots for edge in one["edges"] if edge[0] == kind)


class System:
    """A running system with a service that fails on request."""

    def __init__(self, project: Project, vhost: Vhost) -> None:
        self.project, self.vhost = project, vhost
        self.runner: Runner = project.run(url=vhost.url, env={"FASTCOMMERCE_SETTLE": "0"})
        self.runner.wait_for("everything is RUNNING")

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watching]:
        """Yield a client that watches the system."""
        client = Watching(self.project.folder)
        try:
            yield client
        finally:
            client.close()

    def post(self, amount: float = 149.99) -> str:
        """Post an order, and return its id."""
        status, body = self.project.post({**ALICE, "amount": amount})
        assert status == 202
        return str(body["order_id"])


@pytest.fixture(scope="module")
def system(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Yield the running system."""
    vhost, folder = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}"), tmp_path_factory.mktemp("live")
    project = Project(folder / "project", audit=True)
    project.options("payment", failure_rate=0.0, latency="2ms")
    config, topology = project.config(), project.topology()
    config["fault_injection"] = True
    config["services"]["moody"] = {"consumes": [MOODY_QUEUE]}
    topology["queues"][MOODY_QUEUE] = {"bind": {"orders.topic": ["order.created"]}, "retry": ["200ms"]}
    project.set_config(config)
    project.set_topology(topology)
    project.plugin("moody", MOODY)
    yield System(project, vhost)
    project.close()
    vhost.delete()


def eventually(condition: Callable[[], Any], what: str) -> Any:
    return wait_until(condition, 20, what)


def test_the_steps_of_an_order_are_streamed_with_its_id_in_their_order(system: System) -> None:
    with system.watching() as client:
        order = system.post()

        def all_steps() -> list[list[Any]]:
            found = client.steps(order)
            return found if sum(one[0] == "handled" for one in found) == 6 else []

        steps = eventually(all_steps, "all services have handled the order and its payment")
        published = [one[1:4] for one in steps if one[0] == "published"]
        assert published == [
            ["orders.topic", "order.created", order],
            ["payments.topic", "payment.success", order],
        ]
        assert steps[0] == ["published", "orders.topic", "order.created", order, 0]
        payment = [one for one in steps if one[1] in (ORDERS, "payments.topic")]
        assert [(one[0], one[4]) for one in payment] == [("delivered", 1), ("published", 1), ("handled", 1)]
        queues = {one[1] for one in steps if one[0] == "delivered"}
        assert queues == {
            ORDERS, MOODY_QUEUE, "notification.order.events", "notification.payment.events", "audit.events"
        }  # fmt: skip
        last = client.snapshots[-1]
        slots = {one["slot"]: one for one in last["slots"]}
        edges = [edge for edge in slots["payment.1"]["edges"] if edge[0] == "published"]
        assert edges == [["published", "payments.topic", "payment.success", edges[0][3], "payment.success"]]
        for name in ("handler_time", "queue_time"):
            times = slots["payment.1"][name][ORDERS]
            assert times["count"] == sum(times["buckets"]) >= 1
            assert 0 < times["sum"] < 60 * times["count"]
        assert slots["audit.1"]["handled"] > client.count("audit.1", "handled"), "attempt reports are not steps"
        for snapshot in client.snapshots:
            times = [one[0] for one in snapshot["steps"]]
            assert times == sorted(times)
        assert {"runner", "services", "slots", "removed_slots", "time", "clock", "steps", "timeline"} == set(last)


def test_a_failed_attempt_is_streamed_as_retried_and_a_rejected_message_as_dead_lettered(system: System) -> None:
    with system.watching() as client:
        order, bad = system.post(13), system.post(66)

        def outcomes(id: str) -> list[list[Any]]:
            return [one for one in client.steps(id) if one[1] == MOODY_QUEUE]

        eventually(lambda: len(outcomes(order)) == 4 and len(outcomes(bad)) == 2, "both are finished")
        assert outcomes(order) == [
            ["delivered", MOODY_QUEUE, "", order, 1],
            ["retried", MOODY_QUEUE, "200ms", order, 1],
            ["delivered", MOODY_QUEUE, "", order, 2],
            ["handled", MOODY_QUEUE, "", order, 2],
        ]
        assert [one[0] for one in outcomes(bad)] == ["delivered", "dead_lettered"]


def test_totals_continue_after_a_kill_and_the_timeline_names_its_reason(system: System) -> None:
    with system.watching() as client:
        first = system.post()
        eventually(lambda: ["handled", ORDERS, "", first, 1] in client.steps(), "the first order is handled")
        eventually(lambda: client.count("payment.1", "handled"), "the order is counted")
        before = client.count("payment.1", "handled")
        os.kill(system.project.slots()["payment.1"]["pid"], signal.SIGKILL)
        eventually(lambda: ("crashed", "payment.1") in [one[:2] for one in client.timeline()], "the crash")
        second = system.post()
        eventually(lambda: ["handled", ORDERS, "", second, 1] in client.steps(), "the second order is handled")
        eventually(lambda: client.count("payment.1", "handled") == before + 1, "both processes are counted")
        texts = [text for kind, slot, text in client.timeline() if (kind, slot) == ("crashed", "payment.1")]
        assert texts == ["killed by SIGKILL: restarting now"]
        for kind in ("delivered", "handled", "published"):
            counts = [
                sum(edge[3] for one in snapshot["slots"] if one["slot"] == "payment.1"
                    for edge in one["edges"] if edge[0] == kind)
                for snapshot in client.snapshots
            ]  # fmt: skip
            assert counts == sorted(counts)


def test_two_clients_get_the_same_steps_and_notes(system: System) -> None:
    with system.watching() as one, system.watching() as other:
        order = system.post()
        post_note(system.project.folder, "command", "a queue", "a note of a command")
        note = ("command", "a queue", "a note of a command")

        def is_complete(client: Watching) -> bool:
            return ["handled", ORDERS, "", order, 1] in client.steps() and note in client.timeline()

        eventually(lambda: is_complete(one) and is_complete(other), "both get the order and the note")
        assert one.steps(order)[:2] == other.steps(order)[:2]


def test_commands_appear_in_the_timeline(system: System) -> None:
    assert system.project.call("scale", "moody", "2", url=system.vhost.url)[0] == 0
    assert system.project.call("scale", "moody", "1", url=system.vhost.url)[0] == 0
    (system.project.folder / "plugins" / "moody.py").write_text("1 +")
    assert system.project.call("reload", url=system.vhost.url)[0] == 78
    system.project.plugin("moody", MOODY)
    assert system.project.call("reload", url=system.vhost.url)[0] == 0
    with system.watching() as client:
        found = client.timeline()
    kinds = [(kind, subject) for kind, subject, _ in found if kind not in ("crashed", "restarting")]
    assert ("scaled", "moody", "scaled from 1 to 2") in found
    assert ("command", "moody", "scale moody 2") in found
    assert ("stopped", "moody.2") in kinds
    assert ("refused", "files") in kinds
    assert kinds[-1] == ("reloaded", "files")


def test_commands_outside_the_supervisor_appear_in_the_timeline(system: System) -> None:
    def call(*arguments: str) -> None:
        code, output = system.project.call(*arguments, url=system.vhost.url)
        assert code == 0, output

    def dead_letters(count: int) -> None:
        eventually(lambda: system.vhost.ready(DEAD) == count, f"{count} dead letters")

    with system.watching() as client:
        system.project.call("dlq", "discard", "--queue", DEAD, "--all", "--yes", url=system.vhost.url)
        system.post(66)
        dead_letters(1)
        call("dlq", "replay", "--queue", DEAD, "--all")
        dead_letters(1)
        call("move", DEAD, "unrouted.all")
        call("purge", "unrouted.all", "--yes")
        system.post(66)
        dead_letters(1)
        call("dlq", "discard", "--queue", DEAD, "--all", "--yes")
        call("fault", "slow", "moody", "1ms")
        call("fault", "clear")
        topology = system.project.topology()
        topology["queues"]["extra"] = {}
        system.project.set_topology(topology)
        call("apply")
        expected = [
            ("command", DEAD, "dlq replay: 1 message replayed"),
            ("command", DEAD, "move: 1 message moved to unrouted.all"),
            ("command", "unrouted.all", "purge: 1 message purged"),
            ("command", DEAD, "dlq discard: 1 message discarded"),
            ("fault", "moody", "fault slow: each handler of moody takes 1ms longer until"),
            ("fault", "moody", "fault clear: slow ended"),
            ("command", "topology", "apply: + policy fastcommerce.queue.extra; + queue extra; + queue extra.dlq"),
            ("command", "files", "reload"),
        ]

        def found() -> list[tuple[str, str, str]]:
            entries = [(kind, subject, re.sub(r" [\d:]+$", "", text)) for kind, subject, text in client.timeline()]
            return [one for one in entries if one in expected][-len(expected) :]

        eventually(lambda: found() == expected, "all commands are in the timeline")


def test_a_client_that_does_not_read_neither_delays_others_nor_loses_a_count(system: System) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as slow, system.watching() as client:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket_path(system.project.folder / "var") as path:
            slow.connect(path)
        slow.sendall(b'{"version": 1, "command": "watch"}\n')
        order = system.post()
        before = len(client.snapshots)
        eventually(lambda: ["handled", ORDERS, "", order, 1] in client.steps(), "the other client gets the steps")
        eventually(lambda: len(client.snapshots) >= before + 2, "and its snapshots")
