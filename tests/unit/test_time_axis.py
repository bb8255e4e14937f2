"""The time axis of a swimlane."""

from __future__ import annotations

from itertools import pairwise

import pytest

from runner.dashboard.time_axis import TimeAxis, fold_text, tick_text
from runner.history.swimlane_builder import swimlane_of
from tests.recorded import T0, attempt, created, history, success

RETRIED = [
    attempt(1, 3, "retried", sent_at=T0),
    attempt(2, 1060, "retried", sent_at=T0 + 53, delay=5000),
    attempt(3, 6120, sent_at=T0 + 1110),
]


def axis(*, is_folded: bool = True, last: bool = True) -> TimeAxis:
    found_history = history([created(), success(6170)] if last else [created()], RETRIED if last else RETRIED[:1])
    return TimeAxis(swimlane_of(found_history), 200, 1200, is_folded=is_folded)


@pytest.mark.parametrize("is_folded", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_later_times_are_further_to_the_right(is_folded: bool, last: bool) -> None:
    found = axis(is_folded=is_folded, last=last)
    places = [found.x(time) for time in range(0, 6171, 7)]
    assert all(before <= after for before, after in pairwise(places))
    assert (places[0], found.x(None)) == (200, 1200)
    assert places[-1] <= found.tail


def test_long_waits_are_folded_and_handlers_keep_their_scale() -> None:
    found = axis()
    assert [fold_text(one) for one in found.folds] == ["1.00 s folded", "5.00 s folded"]
    widths = [found.x(began + 50) - found.x(began) for began in (3, 1060, 6120)]
    assert max(widths) - min(widths) < 0.01
    assert min(widths) > 150
    assert all(one.right - one.left < 100 for one in found.folds)


def test_the_true_scale_has_no_folds() -> None:
    found = axis(is_folded=False)
    assert found.folds == []
    assert found.x(3085) == pytest.approx(700)


def test_a_wait_that_lasts_has_a_part_of_its_own_behind_the_recorded_times() -> None:
    found = axis(last=False)
    assert found.x(53) == pytest.approx(found.tail)
    assert found.tail < 1150


@pytest.mark.parametrize("is_folded", [True, False])
def test_ticks_have_round_times_and_a_distance(is_folded: bool) -> None:
    ticks = list(axis(is_folded=is_folded).ticks())
    assert ticks[0].text == "0"
    assert 5 <= len(ticks) <= 14
    assert len({one.text for one in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("time", "step", "text"),
    [
        (0, 20, "0"), (20, 20, "20 ms"), (1060, 20, "1.06 s"), (1005, 5, "1.005 s"), (1500, 500, "1.5 s"),
        (90_000, 10_000, "90 s"), (150_000, 20_000, "2:30"), (3_723_000, 20_000, "1:02:03"),
        (600_000, 60_000, "10 min"), (7_200_000, 3_600_000, "2 h 0 min"), (172_800_000, 86_400_000, "2 d"),
    ],
)  # fmt: skip
def test_a_label_has_the_digits_that_the_distance_needs(time: int, step: float, text: str) -> None:
    assert tick_text(time, step) == text


def test_an_order_that_has_only_begun_has_an_axis() -> None:
    found = TimeAxis(swimlane_of(history([created()], [])), 200, 1200, is_folded=True)
    assert found.x(0) == 200
    assert [one.text for one in found.ticks()] == ["0", "1 ms"]
