"""The collector, which builds one frame a second for all pages while at least one page is open."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from runner.admin import queue_counts
from runner.dashboard.count_rounds import CountRounds
from runner.dashboard.edge_rates import EdgeRates, EdgeRoutes
from runner.dashboard.live_frame import delta
from runner.dashboard.page_files import RunningFiles, read_applied, read_files, stamp_of
from runner.dashboard.queue_figures import QueueFigures
from runner.dashboard.rate_history import RateHistory
from runner.dashboard.service_figures import ServiceFigures
from runner.dashboard.symptom import symptoms_of, title_of
from runner.errors import RunnerError
from runner.http.streams import Feed
from runner.supervisor.control.client import watch

#: Seconds between two frames, and seconds between two attempts to reach the supervisor or the broker.
INTERVAL, RETRY = 1.0, 1.0
#: Seconds between two looks at the files, so that pages show an edit within a second.
FILE_INTERVAL = 0.25
#: Seconds for which the collector continues after the last request of a page that polls.
POLLING_SECONDS = 5.0
#: The maximum number of steps in a frame. Above this number, the page shows rates instead of dots.
MAX_STEPS = 300
#: The number of timeline entries that a page gets when it opens.
MAX_TIMELINE = 500
#: The figures of a slot that change only with its state.
STEADY = ("state", "why", "problem", "pid", "restarts", "lines")


class LiveFeed(Feed):
    """A feed that reports whether it has subscribers."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        super().__init__()
        self._on_change = on_change
        self.has_subscribers = False

    def connect(self, wake: Callable[[Feed], None] | None) -> None:
        """Call ``wake`` for each event from now on. ``wake`` is None when the last subscriber has left."""
        super().connect(wake)
        self.has_subscribers = wake is not None
        self._on_change()


class _Over(Exception):
    """Raised inside the thread of the queue counts when no page is open any more."""


class Collector:
    """The live data of all pages. Its threads run only while a page is open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.feed = LiveFeed(self._wake_up)
        self._lock = threading.Condition()
        self._is_closed = False
        self._polled_until = 0.0
        self._frame: dict[str, Any] = _empty_frame()
        #: The last timeline entries, for pages that open later.
        self._timeline: deque[dict[str, Any]] = deque(maxlen=MAX_TIMELINE)
        #: The number of timeline entries so far.
        self._entries = 0
        self._edge_numbers: dict[str, int] = {}
        self._rounds: CountRounds | None = None
        self._broker_problem: str | None = None
        self._stamp: tuple[object, ...] = ()
        self._file_problems: list[dict[str, str]] = []
        self._versions = {"orders": 0, "services": 0, "letters": 0, "files": 0, "broker": 0}
        self._files, self._has_applied = RunningFiles(), False
        #: The files of the figures and of the routes.
        self._derived: RunningFiles | None = None
        self._figures: QueueFigures | None = None
        self._routes, self._rates = EdgeRoutes(None), EdgeRates()
        self._service_figures = ServiceFigures()
        #: The rates of all slots in the last minutes in which a page was open.
        self.rates = RateHistory()
        self._threads: list[threading.Thread] = []

    @property
    def files(self) -> RunningFiles:
        """The files of the running system, which are read on first use and again after a reload."""
        if not self._stamp:
            self._read_files()
        return self._files

    def current(self) -> dict[str, Any]:
        """Return the latest frame as a whole. Start the collector, and keep it running for a page that polls."""
        self._keep_running()
        with self._lock:
            whole = {**self._frame, "full": True, "timeline": list(self._timeline)}
            return {**whole, "edge_names": list(self._edge_numbers), "steps": None}

    def next_frame(self, timeout: float) -> dict[str, Any]:
        """Return a frame of this moment, after waiting at most ``timeout`` seconds if no page was open until now."""
        before = self.current()
        if time.time() - before["time"] > 2 * INTERVAL:
            with self._lock:
                self._lock.wait_for(lambda: self._frame["n"] > before["n"] or self._is_closed, timeout)
        return self.current()

    def frames(self) -> Iterator[dict[str, Any]]:
        """Yield the latest frame as a whole, and then each new frame, until the collector is closed.

        The timeline of a frame contains the entries since the previous frame. A slow reader misses frames.
        """
        last = seen = 0
        while not self._is_closed:
            self._keep_running()
            with self._lock:
                self._lock.wait_for(partial(self._is_after, last), POLLING_SECONDS / 2)
                frame, new = self._frame, self._entries - seen
                if frame["n"] == last or self._is_closed:
                    continue
                last, seen = frame["n"], self._entries
                entries = list(self._timeline)[-new:] if new else []
                names = list(self._edge_numbers)
            yield {**frame, "full": True, "timeline": entries, "edge_names": names}

    def close(self) -> None:
        """Stop the threads."""
        with self._lock:
            self._is_closed = True
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(2 * INTERVAL)

    # The threads.

    @property
    def _is_needed(self) -> bool:
        return not self._is_closed and (self.feed.has_subscribers or time.monotonic() < self._polled_until)

    def _is_after(self, number: int) -> bool:
        return self._is_closed or int(self._frame["n"]) > number

    def _keep_running(self) -> None:
        """Run for ``POLLING_SECONDS`` from now on, even without a subscriber."""
        with self._lock:
            self._polled_until = time.monotonic() + POLLING_SECONDS
        self._wake_up()

    def _wake_up(self) -> None:
        """Start the threads if a page is open and they are not running."""
        with self._lock:
            self._threads = [one for one in self._threads if one.is_alive()]
            running = {one.name for one in self._threads}
            if not self._is_needed:
                return
            for name, work in (
                ("collector", self._collect), ("queue-counts", self._count), ("files", self._watch_files),
            ):  # fmt: skip
                if name not in running:
                    self._threads.append(threading.Thread(target=work, name=name, daemon=True))
                    self._threads[-1].start()

    def _pause(self, seconds: float = RETRY) -> None:
        with self._lock:
            self._lock.wait_for(lambda: self._is_closed, seconds)

    def _collect(self) -> None:
        """Read the supervisor's snapshots, and send a frame for each."""
        while self._is_needed:
            problem = "no supervisor is running"
            try:
                with contextlib.closing(watch(self._folder)) as snapshots:
                    for snapshot in snapshots:
                        self._advance(snapshot)
                        if not self._is_needed:
                            return
            except RunnerError as error:
                problem = str(error)
            self._advance(None, problem)
            self._pause()

    def _count(self) -> None:
        """Read the counts of all queues once a second, over one connection."""
        while self._is_needed:
            figures, rounds = self._figures, self._rounds
            project = self.files.project
            if figures is None or rounds is None or project is None:
                self._pause()
                continue

            def counted(counts: dict[str, Any], unknown: dict[str, str], rounds: CountRounds = rounds) -> None:
                rounds.counted(counts, unknown)
                self._broker_problem = next(iter(unknown.values()), None)
                if not self._is_needed or self._rounds is not rounds:
                    raise _Over

            for url in project.config.broker.url:
                try:
                    queue_counts.watch(url, figures.asked, INTERVAL, counted, rounds.choose)
                except _Over:
                    break
                except RunnerError as error:
                    rounds.counts, self._broker_problem = {}, str(error)
            else:
                self._pause()

    # The frame.

    def _advance(self, snapshot: Mapping[str, Any] | None, problem: str = "ok") -> None:
        """Build the next frame from a snapshot, or from the failure to get one, and send it to all pages."""
        before = self._frame
        self._derive()
        if snapshot is None:
            frame = {**before, "n": before["n"] + 1, "time": time.time(), "live": problem, "steps": None}
            frame |= {"more_steps": 0, "timeline": [], "edge_names": []}
        else:
            frame = self._frame_of(snapshot)
        frame["file_problems"], frame["broker_problem"] = self._file_problems, self._broker_problem
        frame["symptoms"], frame["title"] = symptoms_of(frame), title_of(frame)
        self._versions["broker"] += _broker_state(before) != _broker_state(frame)
        frame["versions"] = dict(self._versions)
        with self._lock:
            self._timeline.extend(frame["timeline"])
            self._entries += len(frame["timeline"])
            self._frame = frame
            self._lock.notify_all()
        self.feed.send(delta(before, frame), "frame")

    def _frame_of(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        entries = self._new_entries(snapshot.get("timeline", []))
        if any(one["kind"] == "reloaded" for one in entries):
            self._read_files(is_reloaded=True)
            self._derive()
        now, slots = snapshot["time"], snapshot["slots"]
        steps, more, names = self._steps(snapshot)
        removed = snapshot.get("removed_slots", [])
        edges = self._rates.add(now, [*slots, *removed], self._routes)
        frame: dict[str, Any] = {
            "n": self._frame["n"] + 1,
            "time": now,
            "live": "ok",
            "runner": snapshot["runner"],
            "services": self._service_figures.of(now, snapshot["services"], slots, removed),
            "slots": {_key(one): _slot(one, now) for one in slots},
            "queues": self._queues(now, slots, edges),
            "edges": edges,
            "steps": steps,
            "more_steps": more,
            "edge_names": names,
            "timeline": entries,
        }
        has_new_rates = self.rates.add(now, frame["slots"])
        self._bump(frame, has_steps=bool(snapshot.get("steps")), has_new_rates=has_new_rates)
        return frame

    def _queues(
        self, now: float, slots: Sequence[Mapping[str, Any]], edges: Mapping[str, float]
    ) -> dict[str, dict[str, Any]]:
        if self._figures is None or self._rounds is None:
            return {}
        self._rounds.add(slots)
        return self._figures.of(now, self._rounds.counts, slots, edges)

    def _new_entries(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the timeline entries that no frame has contained yet. A reconnection sends earlier entries again."""
        last = self._timeline[-1] if self._timeline else None
        if last is None or not entries or entries[-1]["time"] < last["time"]:
            return entries
        return [one for one in entries if one["time"] > last["time"] or (one["id"] > last["id"])]

    def _steps(self, snapshot: Mapping[str, Any]) -> tuple[dict[str, Any] | None, int, list[str]]:
        """Return the steps with numbers for orders and edges, the number of further steps, and new edges' names."""
        steps = snapshot.get("steps", [])
        more = max(0, len(steps) - MAX_STEPS) + snapshot.get("lost", 0)
        known = len(self._edge_numbers)
        orders: dict[str, int] = {}
        moves: list[list[Any]] = []
        if not steps or more:
            return None, more, []
        began = steps[0][0]
        for at, slot, kind, other, key, order, attempt in steps:
            edges = self._routes.of(slot.rpartition(".")[0], kind, other, key)
            if edges:
                numbers = [self._edge_numbers.setdefault(one, len(self._edge_numbers)) for one in edges]
                order_number = orders.setdefault(order, len(orders))
                moves.append([at - began, order_number, kind, attempt, *numbers])
        return {"time": began, "orders": list(orders), "moves": moves}, 0, list(self._edge_numbers)[known:]

    def _bump(self, frame: Mapping[str, Any], *, has_steps: bool, has_new_rates: bool) -> None:
        """Count the changes after which parts of pages must be rendered again."""
        before = self._frame

        def dead(one: Mapping[str, Any]) -> list[Any]:
            return [queue.get("dead") for queue in one["queues"].values()]

        self._versions["orders"] += has_steps
        self._versions["letters"] += dead(before) != dead(frame)
        self._versions["services"] += has_new_rates or _steady(before) != _steady(frame)

    # The files.

    def bump(self, topic: str) -> None:
        """Make all pages render the regions of a topic again, at once."""
        self._versions[topic] = self._versions.get(topic, 0) + 1
        self.feed.send(dict(self._versions), "versions")

    def _watch_files(self) -> None:
        """Notice an edit of the files. The picture shows the edit only after a reload."""
        while self._is_needed:
            if self._stamp and stamp_of(self._folder) != self._stamp:
                self._read_files()
                self.bump("files")
            self._pause(FILE_INTERVAL)

    def _read_files(self, *, is_reloaded: bool = False) -> None:
        stamp = stamp_of(self._folder)
        edited = read_files(self._folder)
        if not self._stamp or stamp[2:] != self._stamp[2:]:
            applied = read_applied(self._folder)
            self._has_applied = applied.project is not None
            self._files = applied if self._has_applied else self._files
        if not self._has_applied and (self._files.project is None or (is_reloaded and edited.project is not None)):
            self._files = edited
        self._file_problems, self._stamp = edited.problems, stamp

    def _derive(self) -> None:
        """Prepare the figures and the routes of the running files."""
        files = self.files
        if files is self._derived:
            return
        self._derived = files
        if files.project is not None and files.objects is not None:
            self._figures = QueueFigures(files.project, files.objects)
            self._rounds = CountRounds(self._figures)
            self._routes, self._rates = EdgeRoutes(files.objects), EdgeRates()
            self._versions["files"] += 1


def _broker_state(frame: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a value that changes when the broker comes or goes, or when a queue appears or disappears."""
    missing = [name for name, one in frame["queues"].items() if one.get("missing")]
    return frame.get("broker_problem"), missing


def _key(slot: Mapping[str, Any]) -> str:
    """Return the name of a slot. During a rollout, two processes have the same name."""
    return str(slot["slot"]) if slot["role"] == "holder" else f"{slot['slot']} ({slot['role']})"


def _slot(slot: Mapping[str, Any], now: float) -> dict[str, Any]:
    # Counters and times that change every second would make each frame large.
    left_out = ("edges", "handler_time", "queue_time", "since", "uptime", "handled", "published", "unacked")
    kept = {name: value for name, value in slot.items() if name not in left_out}
    if (last := slot["last_exit"]) is not None:
        kept["last_exit"] = {"code": last["code"], "words": last["words"], "at": round(now - last["ago"])}
    return kept | {"started": None if slot["uptime"] is None else round(now - slot["uptime"])}


def _steady(frame: Mapping[str, Any]) -> list[Any]:
    """Return the part of a frame after whose changes the rows of services must be rendered again.

    All other figures of a slot change in place.
    """
    slots = {key: {name: one.get(name) for name in STEADY} for key, one in frame["slots"].items()}
    return [frame["live"], {name: one.get("count") for name, one in frame["services"].items()}, slots]


def _empty_frame() -> dict[str, Any]:
    return {
        "n": 0, "time": 0.0, "live": "connecting", "runner": {}, "services": {}, "slots": {}, "queues": {},
        "edges": {}, "symptoms": [], "title": "FastCommerce", "versions": {}, "timeline": [],
    }  # fmt: skip
