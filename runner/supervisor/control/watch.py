"""The ``watch`` command, which streams a snapshot of the running system once a second.

A snapshot contains the status of all slots, the totals of their steps, and the steps and timeline entries since the
last snapshot of the same client.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import NoReturn

from runner.ipc.step_memory import KINDS, PUBLISHED, StepReader, StepTotals
from runner.supervisor.control.follow import Answer, Send
from runner.supervisor.control.status_report import status_of
from runner.supervisor.live_steps import SlotStep
from runner.supervisor.loop import Supervisor
from runner.supervisor.processes.usage import Sampler
from runner.supervisor.slot_keeper import Keeper
from runner.supervisor.transition_report import Role

#: Seconds between snapshots.
INTERVAL = 1.0
#: The maximum number of steps that wait for one client. Above this number, the oldest steps are dropped and counted.
MAX_STEPS = 5000


class Watcher:
    """One client that watches the system. A slow client gets fewer snapshots, but all steps up to ``MAX_STEPS``."""

    def __init__(self) -> None:
        self.is_due = asyncio.Event()
        self.steps: deque[SlotStep] = deque(maxlen=MAX_STEPS)
        self.lost = 0
        #: The id of the last timeline entry that was sent.
        self.entry = 0

    def add(self, steps: Sequence[SlotStep], lost: int) -> None:
        """Add new steps, and make the next snapshot due."""
        self.lost += lost + max(0, len(self.steps) + len(steps) - MAX_STEPS)
        self.steps.extend(steps)
        self.is_due.set()


class Watchers:
    """All clients that watch the system. Without a client, there is no timer, and no memory is read."""

    def __init__(self, supervisor: Supervisor, sampler: Sampler) -> None:
        self._supervisor, self._sampler = supervisor, sampler
        self._watchers: set[Watcher] = set()
        self._timer: asyncio.TimerHandle | None = None
        #: The state of the system at the last tick, which all clients share. None until a client needs it.
        self._state: Answer | None = None

    async def serve(self, send: Send) -> NoReturn:
        """Send snapshots until this task is cancelled."""
        watcher = Watcher()
        watcher.is_due.set()
        if not self._watchers:
            self._supervisor.steps.begin(reader for _, reader in _readers(self._supervisor.keepers()))
            self._timer = self._supervisor.loop.call_later(INTERVAL, self._tick, self._supervisor.loop.time())
        self._state = None  # a new client gets the current state at once
        self._watchers.add(watcher)
        try:
            while True:
                await watcher.is_due.wait()
                watcher.is_due.clear()
                await send({"snapshot": self._snapshot(watcher)})
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                self._supervisor.steps.stop(reader for _, reader in _readers(self._supervisor.keepers()))
                self._state = None
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None

    def _tick(self, last: float) -> None:
        loop = self._supervisor.loop
        # If the loop was held up for several intervals, the missed ticks are skipped.
        due = max(last + INTERVAL, loop.time() - INTERVAL)
        self._timer = loop.call_at(due + INTERVAL, self._tick, due)
        self._state = None
        steps, lost = self._supervisor.steps.take(_readers(self._supervisor.keepers()))
        for watcher in self._watchers:
            watcher.add(steps, lost)

    def _snapshot(self, watcher: Watcher) -> Answer:
        if self._state is None:
            self._state = self._current_state()
        entries = self._supervisor.timeline.after(watcher.entry)
        if entries:
            watcher.entry = entries[-1].id
        steps, lost = [_row(slot_step) for slot_step in watcher.steps], watcher.lost
        watcher.steps.clear()
        watcher.lost = 0
        timeline = [entry.as_json() for entry in entries]
        return {**self._state, "steps": steps, **({"lost": lost} if lost else {}), "timeline": timeline}

    def _current_state(self) -> Answer:
        keepers, status = self._supervisor.keepers(), status_of(self._supervisor, self._sampler)
        owners: dict[str, Keeper] = {}
        for keeper in keepers:
            if keeper.name not in owners or keeper.role is Role.HOLDER:
                owners[keeper.name] = keeper
        slots = []
        for keeper, slot in zip(keepers, status["slots"], strict=True):
            totals = StepTotals()
            # While a slot has two processes, only one of them gets the totals, so that their sum remains correct.
            if owners[keeper.name] is keeper:
                readers = [one.child.steps for one in keepers if one.name == keeper.name and one.child is not None]
                totals = self._supervisor.steps.totals(keeper.name, readers)
            unacked = {} if keeper.child is None else keeper.child.steps.unacked()
            slots.append({**slot, **_totals_object(totals), "unacked": unacked})
        # The totals of a service must not fall when the service gets fewer instances.
        removed = [
            {
                "slot": name,
                "service": name.rpartition(".")[0],
                **_totals_object(self._supervisor.steps.totals(name, ())),
            }
            for name in self._supervisor.steps.removed(owners)
        ]
        times = {"time": round(time.time(), 3), "clock": round(time.monotonic(), 3)}
        return {**times, **status, "slots": slots, "removed_slots": removed}


def _readers(keepers: Sequence[Keeper]) -> list[tuple[str, StepReader]]:
    return [(keeper.name, keeper.child.steps) for keeper in keepers if keeper.child is not None]


def _row(slot_step: SlotStep) -> list[object]:
    slot, step = slot_step
    edge = step.edge
    return [step.time // 1_000_000, slot, KINDS[edge.kind], edge.other, edge.key, step.order_id, step.attempt]


def _totals_object(totals: StepTotals) -> Answer:
    edges: list[list[object]] = []
    for edge, count in totals.counts.items():
        row: list[object] = [KINDS[edge.kind], edge.other, edge.key, count]
        edges.append([*row, edge.type] if edge.kind == PUBLISHED else row)
    return {
        "edges": edges,
        "handler_time": {queue: _histogram(times) for queue, times in totals.handler_times.items()},
        "queue_time": {queue: _histogram(times) for queue, times in totals.queue_times.items()},
    }


def _histogram(times: Sequence[float]) -> Answer:
    *buckets, total = times
    return {"buckets": buckets, "sum": round(total, 6), "count": sum(buckets)}
