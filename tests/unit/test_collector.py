"""The collector: frames from snapshots, after reconnections and errors, with personal data masked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.dashboard import collector as collector_module
from runner.dashboard.collector import Collector
from runner.dashboard.page_text import masked
from runner.errors import RunnerError

SLOT: dict[str, Any] = {
    "slot": "pay.1", "service": "pay", "role": "holder", "state": "BACKOFF", "why": "no mail to alice@example.com",
    "problem": "", "pid": None, "uptime": None, "since": 1.0, "restarts": 1, "lines": ["bob@example.com is unknown"],
    "last_exit": None, "edges": [], "handler_time": {}, "queue_time": {}, "unacked": {}, "messages_per_second": 0.0,
}  # fmt: skip


def snapshot(clock: float, *entries: int, pid: int = 42, time: float = 1000.0) -> dict[str, Any]:
    """Return a snapshot of the supervisor with this pid, with timeline entries with these ids."""
    timeline = [
        {"id": id, "time": time - id, "kind": "command", "subject": "x", "text": "a@b.example"} for id in entries
    ]
    return {
        "time": time, "clock": clock, "runner": {"pid": pid, "uptime": clock, "stopping": False},
        "services": {"pay": 1}, "slots": [SLOT], "removed_slots": [], "steps": [], "timeline": timeline,
    }  # fmt: skip


def frames(folder: Path, monkeypatch: pytest.MonkeyPatch, *given: Any, hide: Any = None) -> list[dict[str, Any]]:
    """Return the frames that follow from snapshots. An exception ends the connection to the supervisor."""
    connections, events = iter(given), []

    def watch(_: Path) -> Iterator[dict[str, Any]]:
        for one in connections:
            if isinstance(one, Exception):
                raise one
            yield one
        done.set()
        raise RunnerError("no further snapshot")

    done = threading.Event()
    monkeypatch.setattr(collector_module, "watch", watch)
    collector = Collector(folder, *([hide] if hide else []))
    monkeypatch.setattr(collector._threads, "pause", lambda *_: done.wait(0.01))
    monkeypatch.setattr(collector.feed, "send", lambda frame, _: events.append(frame))
    try:
        collector.current()
        assert done.wait(20)
    finally:
        collector.close()
    return events


def test_a_reconnection_adds_no_timeline_entry_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The clock of the machine was set back an hour, so later entries have earlier times.
    later = snapshot(3, 1, 2, 3, 4, time=-2600.0)
    lost, restarted = RunnerError("the supervisor has gone"), snapshot(9, 1, pid=43)
    found = frames(tmp_path, monkeypatch, snapshot(1, 1, 2), snapshot(2, 3), lost, later, lost, restarted)
    assert [[one["id"] for one in frame.get("timeline", ())] for frame in found][:6] == [[1, 2], [3], [], [4], [], [1]]


def test_a_reload_makes_the_page_compare_the_files_with_the_broker_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reloaded = snapshot(3.0, 2)
    reloaded["timeline"][0]["kind"] = "reloaded"
    found = frames(tmp_path, monkeypatch, snapshot(1.0), snapshot(2.0, 1), reloaded, snapshot(4.0))
    versions = [frame["versions"]["broker"] for frame in found if "broker" in frame.get("versions", {})]
    assert versions[-1] == versions[0] + 1


def test_an_error_in_a_frame_is_shown_and_the_next_frame_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found = frames(tmp_path, monkeypatch, {"time": 1.0}, snapshot(2))
    assert found[0]["live"] == "the dashboard failed, KeyError: 'runner'; see its log"
    assert found[1]["live"] == "ok"
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize("is_masked", [True, False])
def test_a_frame_contains_no_address_if_personal_data_is_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_masked: bool
) -> None:
    found = frames(tmp_path, monkeypatch, snapshot(1, 1), hide=masked if is_masked else None)
    text = json.dumps(found, ensure_ascii=False)
    for address in ("alice@example.com", "bob@example.com", "a@b.example"):
        assert (address in text) != is_masked
