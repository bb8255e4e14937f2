"""A thread of the live data works while it is needed, survives an error, and is started again when needed again."""

from __future__ import annotations

import threading

import pytest

from runner.dashboard import live_threads
from runner.dashboard.live_threads import LiveThreads

SECONDS = 20.0


def test_a_thread_ends_when_it_is_not_needed_and_starts_again() -> None:
    needed, worked = threading.Event(), threading.Semaphore(0)
    threads = LiveThreads(needed.is_set, {"one": worked.release})
    threads.start()
    assert not worked.acquire(blocking=False)
    for _ in range(20):
        # The thread may be about to end when it is needed again.
        needed.set()
        threads.start()
        assert worked.acquire(timeout=SECONDS)
        needed.clear()
    threads.close()
    # The thread may have worked once more before it noticed that it is not needed.
    while worked.acquire(blocking=False):
        pass
    needed.set()
    threads.start()
    assert not worked.acquire(timeout=0.01)


def test_an_error_is_reported_and_the_work_is_repeated(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_threads, "RETRY", 0.0)
    repeated, times = threading.Event(), iter([1])

    def work() -> None:
        if next(times, None):
            raise ValueError("a bug")
        repeated.set()

    threads = LiveThreads(lambda: True, {"one": work})
    threads.start()
    try:
        assert repeated.wait(SECONDS)
        assert "ValueError: a bug" in capfd.readouterr().err
    finally:
        threads.close()
