"""The collector, which builds one frame a second for all pages while at least one page is open."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from runner.dashboard.edge_rates import EdgeRates, EdgeRoutes
from runner.dashboard.live_feed import LiveFeed
from runner.dashboard.live_frame import broker_state, delta, empty_frame, slot_figures, slot_key, steady_part
from runner.dashboard.live_threads import LiveThreads
from runner.dashboard.page_files import RunningFiles
from runner.dashboard.queue_counter import QueueCounter
from runner.dashboard.rate_history import RateHistory
from runner.dashboard.service_figures import ServiceFigures
from runner.dashboard.step_moves import StepMoves
from runner.dashboard.symptom import symptoms_of, title_of
from runner.dashboard.watched_files import WatchedFiles
from runner.errors import RunnerError
from runner.supervisor.control.client import watch

#: Seconds between two frames of a supervisor that answers.
INTERVAL = 1.0
#: Seconds between two checks for changed files, so that pages show an edit within a second.
FILE_INTERVAL = 0.25
#: Seconds for which the collector continues after the last request of a page that polls.
POLLING_SECONDS = 5.0
#: The number of timeline entries that a page gets when it opens.
MAX_TIMELINE = 500


class Collector:
    """The live data of all pages. Its threads run only while a page is open."""

    def __init__(self, folder: Path, hide: Callable[[Any], Any] = lambda value: value) -> None:
        """``hide`` masks personal data in the values of a frame."""
        self._folder, self._hide = folder, hide
        works = {"collector": self._collect, "queue-counts": self._count, "files": self._watch_files}
        self._threads = LiveThreads(self._is_needed, works)
        self.feed = LiveFeed(self._threads.start)
        self._lock = threading.Condition()
        self._polled_until = 0.0
        self._frame: dict[str, Any] = empty_frame()
        #: The time of the frame, in seconds of the monotonic clock.
        self._built_at = float("-inf")
        #: The last timeline entries, for pages that open later.
        self._timeline: deque[dict[str, Any]] = deque(maxlen=MAX_TIMELINE)
        #: The number of timeline entries so far, and the supervisor's pid with the id of its last entry.
        self._entries = 0
        self._last_entry = (0, 0)
        self._moves, self._counter = StepMoves(), QueueCounter()
        self._versions = {"orders": 0, "services": 0, "dead_letters": 0, "files": 0, "broker": 0, "plan": 0}
        self.watched = WatchedFiles(folder)
        #: The files of the figures and of the routes.
        self._derived: RunningFiles | None = None
        self._routes, self._rates = EdgeRoutes(None), EdgeRates()
        self._service_figures = ServiceFigures()
        #: The rates of all slots in the last minutes in which a page was open.
        self.rates = RateHistory()

    @property
    def files(self) -> RunningFiles:
        """The files of the running system, which are read on first use and again after a reload."""
        return self.watched.running

    @property
    def versions(self) -> dict[str, int]:
        """The number of changes of each topic so far."""
        return dict(self._versions)

    def current(self) -> dict[str, Any]:
        """Return the latest frame as a whole. Start the collector, and keep it running for a page that polls."""
        self._keep_running()
        with self._lock:
            whole = {**self._frame, "full": True, "timeline": list(self._timeline)}
            return {**whole, "edge_names": self._moves.names, "steps": None}

    def next_frame(self, timeout: float) -> dict[str, Any]:
        """Return a frame of this moment, after waiting at most ``timeout`` seconds if no page was open until now."""
        before = self.current()
        if time.monotonic() - self._built_at > 2 * INTERVAL:
            with self._lock:
                self._lock.wait_for(partial(self._is_after, before["n"]), timeout)
        return self.current()

    def frames(self) -> Iterator[dict[str, Any]]:
        """Yield the latest frame as a whole, and then each new frame, until the collector is closed.

        The timeline of a frame contains the entries since the previous frame. A slow reader misses frames.
        """
        last = seen = 0
        while not self._threads.is_closed:
            self._keep_running()
            with self._lock:
                self._lock.wait_for(partial(self._is_after, last), POLLING_SECONDS / 2)
                frame, new = self._frame, self._entries - seen
                if frame["n"] == last or self._threads.is_closed:
                    continue
                last, seen = frame["n"], self._entries
                entries = list(self._timeline)[-new:] if new else []
                names = self._moves.names
            yield {**frame, "full": True, "timeline": entries, "edge_names": names}

    def close(self) -> None:
        """Stop the threads."""
        self._threads.is_closed = True
        with self._lock:
            self._lock.notify_all()
        self._threads.close()

    # The work of the threads.

    def _is_needed(self) -> bool:
        return self.feed.has_subscribers or time.monotonic() < self._polled_until

    def _continues(self) -> bool:
        return self._is_needed() and not self._threads.is_closed

    def _is_after(self, number: int) -> bool:
        return self._threads.is_closed or int(self._frame["n"]) > number

    def _keep_running(self) -> None:
        """Run for ``POLLING_SECONDS`` from now on, even without a subscriber."""
        self._polled_until = time.monotonic() + POLLING_SECONDS
        self._threads.start()

    def _collect(self) -> None:
        """Read the supervisor's snapshots, and send a frame for each."""
        problem = "no supervisor is running"
        try:
            with contextlib.closing(watch(self._folder)) as snapshots:
                for snapshot in snapshots:
                    self._advance(snapshot)
                    if not self._continues():
                        return
        except RunnerError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - the pages show that their figures are old
            traceback.print_exc()
            problem = f"the dashboard failed, {type(error).__name__}: {error}; see its log"
        self._advance(None, problem)
        self._threads.pause()

    def _count(self) -> None:
        """Read the counts of all queues."""
        if not self._counter.read(self._continues):
            self._threads.pause()

    def _watch_files(self) -> None:
        """Notice an edit of the files. The picture shows the edit only after a reload."""
        if self.watched.is_changed():
            self.bump("files")
        self._threads.pause(FILE_INTERVAL)

    # The frame.

    def _advance(self, snapshot: Mapping[str, Any] | None, problem: str = "ok") -> None:
        """Build the next frame from a snapshot, or from the failure to get one, and send it to all pages."""
        before = self._frame
        self._derive()
        if snapshot is None:
            frame = {**before, "n": before["n"] + 1, "time": time.time(), "live": self._hide(problem), "steps": None}
            frame |= {"more_steps": 0, "timeline": [], "edge_names": []}
        else:
            frame = self._frame_of(snapshot)
        frame["file_problems"], frame["broker_problem"] = self._hide([self.watched.problems, self._counter.problem])
        frame["symptoms"], frame["title"] = symptoms_of(frame), title_of(frame)
        self._versions["broker"] += broker_state(before) != broker_state(frame)
        frame["versions"] = self.versions
        with self._lock:
            self._built_at = time.monotonic()
            self._timeline.extend(frame["timeline"])
            self._entries += len(frame["timeline"])
            self._frame = frame
            self._lock.notify_all()
        self.feed.send(delta(before, frame), "frame")

    def _frame_of(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        entries = self._hide(self._new_entries(snapshot["runner"]["pid"], snapshot["timeline"]))
        if any(one["kind"] == "reloaded" for one in entries):
            self._versions["broker"] += 1  # a reload also changes objects that have no queue in the picture
            self.watched.read(is_reloaded=True)
            self._derive()
        now, clock, slots = snapshot["time"], snapshot["clock"], snapshot["slots"]
        steps, more, names = self._moves.of(snapshot, self._routes)
        removed = snapshot.get("removed_slots", [])
        edges = self._rates.add(clock, [*slots, *removed], self._routes)
        frame: dict[str, Any] = {
            "n": self._frame["n"] + 1,
            "time": now,
            "live": "ok",
            "runner": snapshot["runner"],
            "services": self._service_figures.of(clock, snapshot["services"], slots, removed),
            "slots": {slot_key(one): self._hide(slot_figures(one, now)) for one in slots},
            "queues": self._counter.figures(clock, slots, edges),
            "edges": edges,
            "steps": steps,
            "more_steps": more,
            "edge_names": names,
            "timeline": entries,
        }
        has_new_rates = self.rates.add(clock, frame["slots"])
        self._bump(frame, has_steps=bool(snapshot.get("steps")), has_new_rates=has_new_rates)
        return frame

    def _new_entries(self, pid: int, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the timeline entries that no frame has contained yet. A reconnection sends earlier entries again."""
        known = self._last_entry[1] if self._last_entry[0] == pid else 0
        new = [one for one in entries if one["id"] > known]
        self._last_entry = (pid, max((one["id"] for one in new), default=known))
        return new

    def _bump(self, frame: Mapping[str, Any], *, has_steps: bool, has_new_rates: bool) -> None:
        """Count the changes after which parts of pages must be rendered again."""
        before = self._frame

        def dead(one: Mapping[str, Any]) -> list[Any]:
            return [queue.get("dead") for queue in one["queues"].values()]

        self._versions["orders"] += has_steps
        self._versions["dead_letters"] += dead(before) != dead(frame)
        self._versions["services"] += has_new_rates or steady_part(before) != steady_part(frame)

    def bump(self, topic: str) -> None:
        """Make all pages render the regions of a topic again, at once."""
        self._versions[topic] = self._versions.get(topic, 0) + 1
        self.feed.send(self.versions, "versions")

    def _derive(self) -> None:
        """Prepare the figures and the routes of the running files."""
        files = self.files
        if files is self._derived:
            return
        self._derived = files
        if files.project is not None and files.objects is not None:
            self._counter.count(files)
            self._routes, self._rates = EdgeRoutes(files.objects), EdgeRates()
            self._versions["files"] += 1
