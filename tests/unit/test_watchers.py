"""Clients that watch a system: what each gets, and what a slow client misses."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.ipc import step_memory
from runner.ipc.step_memory import DELIVERED, HANDLED, PUBLISHED, StepMemory, StepReader
from runner.supervisor.control import FILE, watch
from runner.supervisor.control.client import NOTE_TIME, post_note
from runner.supervisor.control.watch import Watchers
from runner.supervisor.live_steps import LiveSteps
from runner.supervisor.timeline import Timeline
from runner.supervisor.transition_report import Role


class Worker:
    """A process of a slot, with its steps."""

    def __init__(self, name: str, role: Role = Role.HOLDER) -> None:
        memory = mmap.mmap(-1, step_memory.SIZE)
        self.memory, self.child = StepMemory(memory, 0), SimpleNamespace(steps=StepReader(memory, 0, memory))
        self.name, self.role = name, role

    def record(self, edge: tuple[int, str, str, str], order: str = "") -> None:
        number = self.memory.number(edge)
        self.memory.counts[number] += 1
        self.memory.list_step(number, order, 1, time.time_ns())

    def handle(self, *orders: str) -> None:
        for order in orders:
            self.record((HANDLED, "q", "", ""), order)
            self.memory.add_time("q", 0.01, is_handler=True)


class Client:
    """A client that gets snapshots. ``pause`` blocks it."""

    def __init__(self) -> None:
        self.snapshots: list[dict[str, Any]] = []
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def send(self, answer: dict[str, Any]) -> None:
        self.snapshots.append(answer["snapshot"])
        await self.may_read.wait()

    async def block(self) -> None:
        """Return when a snapshot is sent that the client does not read."""
        self.may_read.clear()
        count = len(self.snapshots)
        await until(lambda: len(self.snapshots) > count)

    def orders(self) -> list[str]:
        return [step[5] for one in self.snapshots for step in one["steps"]]

    def has(self, order: str) -> bool:
        return order in self.orders()


class System:
    """A supervisor with two workers. The state is computed by a function that counts its calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workers = [Worker("a.1"), Worker("b.1")]
        self.loop = asyncio.get_running_loop()
        self.timeline, self.steps = Timeline(), LiveSteps()
        self.computed = 0
        monkeypatch.setattr(watch, "status_of", self._status)
        monkeypatch.setattr(watch, "INTERVAL", 0.02)
        supervisor: Any = self
        self.watchers = Watchers(supervisor, supervisor)

    def keepers(self) -> list[Worker]:
        return self.workers

    def _status(self, *_: object) -> dict[str, Any]:
        self.computed += 1
        return {"runner": {}, "services": {}, "slots": [{"slot": one.name} for one in self.workers]}

    @contextlib.asynccontextmanager
    async def client(self) -> Any:
        """Yield a client that watches until the end of the block."""
        client = Client()
        task = asyncio.create_task(self.watchers.serve(client.send))
        await until(lambda: client.snapshots)
        try:
            yield client
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_client_gets_the_state_at_once_and_later_steps_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        system = System(monkeypatch)
        first, second = system.workers
        first.handle("before")
        system.timeline.add("started", "a.1", "running")
        async with system.client() as client:
            assert client.snapshots[0]["steps"] == []
            assert [one["text"] for one in client.snapshots[0]["timeline"]] == ["running"]
            first.handle("1")
            second.handle("2")
            first.handle("3")
            system.timeline.add("stopped", "a.1", "stopped")
            await until(lambda: len(client.orders()) == 3)
            assert client.orders() == ["1", "2", "3"]
            assert [one["text"] for snapshot in client.snapshots[1:] for one in snapshot["timeline"]] == ["stopped"]
            slot = client.snapshots[-1]["slots"][0]
            assert slot["edges"] == [["handled", "q", "", 3]]
            assert slot["handler_time"]["q"]["count"] == 3
            assert slot["handler_time"]["q"]["sum"] == pytest.approx(0.03)
            assert slot["queue_time"] == {}
            assert all("lost" not in one for one in client.snapshots)
            rows = [step for one in client.snapshots for step in one["steps"]]
            assert rows[0][1:] == ["a.1", "handled", "q", "", "1", 1]
            assert 0 <= time.time() * 1000 - rows[0][0] < 60_000

    asyncio.run(main())


def test_a_slow_client_gets_fewer_snapshots_but_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        system = System(monkeypatch)
        async with system.client() as quick, system.client() as slow:
            await slow.block()
            count = len(slow.snapshots)
            orders = [str(number) for number in range(20)]
            for order in orders:
                system.workers[0].handle(order)
                await until(partial(quick.has, order))
            await until(lambda: quick.orders() == orders)
            assert len(slow.snapshots) == count, "nothing waits for a client except its next snapshot"
            slow.may_read.set()
            await until(lambda: slow.orders() == orders)
            assert len(slow.snapshots) < len(quick.snapshots)
            assert all("lost" not in one for one in slow.snapshots)

    asyncio.run(main())


def test_the_steps_that_a_slow_client_misses_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(watch, "MAX_STEPS", 10)
        system = System(monkeypatch)
        async with system.client() as quick, system.client() as slow:
            await slow.block()
            orders = [str(number) for number in range(16)]
            for start in (0, 8):
                system.workers[0].handle(*orders[start : start + 8])
                await until(partial(quick.has, orders[start + 7]))
            slow.may_read.set()
            await until(lambda: slow.orders() == orders[6:])
            assert [one["lost"] for one in slow.snapshots if "lost" in one] == [6]
            await until(lambda: "lost" not in slow.snapshots[-1])

    asyncio.run(main())


def test_nothing_is_read_or_computed_while_no_client_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        system = System(monkeypatch)
        async with system.client() as client:
            await until(lambda: len(client.snapshots) >= 3)
        system.workers[0].handle("unseen")
        computed = system.computed
        assert system.watchers._timer is None
        assert not any(one.memory.is_watched for one in system.workers)
        async with system.client() as client:
            await until(lambda: len(client.snapshots) >= 2)
            assert client.orders() == []
        assert system.computed > computed

    asyncio.run(main())


def test_the_state_is_computed_once_for_all_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        system = System(monkeypatch)
        async with system.client() as one, system.client() as other:
            await until(lambda: len(one.snapshots) >= 4 and len(other.snapshots) >= 4)
            assert system.computed <= max(len(one.snapshots), len(other.snapshots)) + 1

    asyncio.run(main())


def test_the_totals_of_a_slot_with_two_processes_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        system = System(monkeypatch)
        old, new = Worker("a.1", Role.OLD), Worker("a.1")
        system.workers = [new, Worker("b.1"), old]
        old.handle("1", "2")
        new.handle("3")
        new.record((PUBLISHED, "e", "k", "done"))
        new.record((DELIVERED, "q", "", ""))
        async with system.client() as client:
            edges = [slot["edges"] for slot in client.snapshots[0]["slots"]]
        assert sorted(edges[0]) == [
            ["delivered", "q", "", 1], ["handled", "q", "", 3], ["published", "e", "k", 1, "done"],
        ]  # fmt: skip
        assert edges[1:] == [[], []]

    asyncio.run(main())


@pytest.mark.parametrize("missing", ["folder", "socket", "supervisor"])
def test_a_note_without_a_supervisor_is_lost_without_an_error_or_a_delay(tmp_path: Path, missing: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, contextlib.ExitStack() as others:
        if missing != "folder":
            (tmp_path / "var").mkdir()
        if missing == "supervisor":
            # A supervisor that hangs: its backlog is full, and a further connection would wait.
            listener.bind(str(tmp_path / "var" / FILE))
            listener.listen(0)
            for _ in range(2):
                other = others.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                other.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    other.connect(str(tmp_path / "var" / FILE))
        started = time.monotonic()
        post_note(tmp_path, "command", "payment", "text")
        assert NOTE_TIME < 0.2
        assert time.monotonic() - started < 10
