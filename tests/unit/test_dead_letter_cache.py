"""The snapshot of dead letters that all open pages share."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from runner.dashboard import dead_letter_cache
from runner.dashboard.dead_letter_cache import DeadLetterCache
from runner.deadletters.snapshot import DeadLetterSnapshot
from runner.errors import BrokerUnreachable


class Source:
    """The state on which a cache depends, and the number of its reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.version, self.is_busy, self.is_unreachable, self.reads, self.now = 1, False, False, 0, 100.0
        self.ended = 0
        self.cache = DeadLetterCache(Path(), lambda: self.version, lambda: self.is_busy, self.read, lambda: self.ended)
        monkeypatch.setattr(dead_letter_cache.time, "monotonic", lambda: self.now)  # type: ignore[attr-defined]

    def read(self, _: Path) -> DeadLetterSnapshot:
        self.reads += 1
        if self.is_unreachable:
            raise BrokerUnreachable("no broker answers")
        return DeadLetterSnapshot(counts={"pay.dlq": self.reads}, taken_at=time.time())

    def total(self) -> tuple[int, bool]:
        """Return the number of messages in the snapshot, which is the number of the read, and if it is outdated."""
        found = self.cache.get()
        return found.snapshot.total, found.is_outdated


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    return Source(monkeypatch)


def test_the_queues_are_read_again_only_after_a_change_or_half_a_minute(source: Source) -> None:
    assert source.total() == (1, False)
    source.now += 20
    assert source.total() == (1, False)
    source.version += 1
    assert source.total() == (2, False)
    source.now += 31
    assert source.total() == (3, False)


def test_a_page_asks_again_if_the_queues_have_just_been_read(source: Source) -> None:
    assert source.total() == (1, False)
    source.version += 1
    source.now += 0.5
    assert source.total() == (1, True)
    source.now += 0.6
    assert source.total() == (2, False)


def test_the_queues_are_not_read_while_a_command_moves_messages(source: Source) -> None:
    source.is_busy = True
    assert source.total() == (1, False)
    source.version += 1
    source.now += 60
    assert source.total() == (1, False)
    source.is_busy = False
    assert source.total() == (2, False)


def test_the_queues_are_read_each_second_after_a_command_because_a_message_may_fail_again(source: Source) -> None:
    assert source.total() == (1, False)
    source.now, source.ended = source.now + 2, 1
    assert source.total() == (2, True)
    source.now += 0.5
    assert source.total() == (2, True)
    source.now += 0.6
    assert source.total() == (3, True)
    source.now += 5
    assert source.total() == (3, False)


def test_the_last_snapshot_remains_while_the_broker_is_unreachable(source: Source) -> None:
    assert source.total() == (1, False)
    source.is_unreachable, source.now, source.version = True, source.now + 5, 2
    found = source.cache.get()
    assert (found.snapshot.total, found.problem) == (1, "no broker answers")
    source.is_unreachable, source.now = False, source.now + 31
    assert source.cache.get().problem is None
