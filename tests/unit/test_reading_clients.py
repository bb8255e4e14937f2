"""Dead letters that another client reads for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runner.admin.queue_counts import QueueCounts
from runner.deadletters import open_queues
from runner.deadletters.open_queues import _counts_without_readers

READ, UNREAD = QueueCounts(0, 1), QueueCounts(3, 0)


def looks(monkeypatch: pytest.MonkeyPatch, answers: Iterator[QueueCounts]) -> None:
    def look(urls: Any, queues: Any, unknown: Any) -> tuple[str, dict[str, QueueCounts | None]]:
        return urls[0], {"pay.dlq": next(answers), "gone": None}

    monkeypatch.setattr(open_queues, "look", look)
    monkeypatch.setattr(open_queues, "READERS_INTERVAL", 0.001)


def test_a_command_waits_until_another_client_has_read_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_queues, "READERS_TIMEOUT", 60)
    looks(monkeypatch, iter([READ, READ, UNREAD]))
    assert _counts_without_readers(["url"], [], {}, ()) == ("url", {"pay.dlq": UNREAD, "gone": None})


@pytest.mark.parametrize(("timeout", "consumed"), [(0.0, ()), (60, ("pay.dlq",))])
def test_a_command_does_not_wait_for_a_service_or_for_a_long_read(
    monkeypatch: pytest.MonkeyPatch, timeout: float, consumed: tuple[str, ...]
) -> None:
    monkeypatch.setattr(open_queues, "READERS_TIMEOUT", timeout)
    looks(monkeypatch, iter([READ] * 1000))
    assert _counts_without_readers(["url"], [], {}, consumed)[1]["pay.dlq"] == READ
