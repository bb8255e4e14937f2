"""The number of dead letters in the live frame, while other clients read the dead-letter queue."""

from __future__ import annotations

from runner.admin.queue_counts import QueueCounts
from runner.dashboard.page_files import read_files
from runner.dashboard.queue_figures import QueueFigures
from tests.running import ROOT

QUEUE = "payment.order.created"


def shown(*counts: int | None) -> list[int | None]:
    """Return the numbers that are shown if the queue reports these numbers of ready messages, one each second."""
    files = read_files(ROOT)
    assert files.project is not None
    assert files.objects is not None
    figures = QueueFigures(files.project, files.objects)
    found = []
    for time, count in enumerate(counts):
        reported = {} if count is None else {f"{QUEUE}.dlq": QueueCounts(count, 0)}
        found.append(figures.of(float(time), reported, [], {})[QUEUE]["dead"])
    return found


def test_a_read_of_the_dead_letters_does_not_change_their_number() -> None:
    assert shown(5, 0, 5, 2, 1, 5, 6) == [5, 5, 5, 5, 5, 5, 6]


def test_a_lower_number_is_shown_if_it_lasts() -> None:
    assert shown(5, 0, 0, 0, 0, 0) == [5, 5, 5, 0, 0, 0]
    assert shown(5, 4, 3, 2, 1, 0, 0, 0) == [5, 5, 5, 2, 2, 2, 0, 0]


def test_an_unknown_number_is_shown_as_unknown() -> None:
    assert shown(None, 5, None, 7) == [None, 5, None, 7]
