"""The number of instances that follows the waiting messages, with a clock that the test moves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.supervisor.autoscale import Autoscale, Trend, follow

SETTINGS = Autoscale(min=1, max=5, messages_per_instance=100, up=5, down=60)


def numbers(*looks: tuple[float, int], instances: int = 1) -> list[int]:
    """Return the number of instances after each observation, given as its time and the ready messages."""
    trend, found = Trend(), []
    for now, ready in looks:
        trend, instances = follow(SETTINGS, trend, instances, ready, now)
        found.append(instances)
    return found


def test_instances_are_added_after_they_were_needed_for_long_enough() -> None:
    assert numbers((0, 250), (3, 250), (4.9, 250), (5, 250)) == [1, 1, 1, 3]


def test_a_short_burst_adds_none() -> None:
    assert numbers((0, 500), (3, 0), (6, 500), (10, 500)) == [1, 1, 1, 1]


def test_no_more_are_added_than_were_needed_all_the_time() -> None:
    assert numbers((0, 150), (4, 500), (5, 500)) == [1, 1, 2]


def test_instances_are_removed_only_after_a_long_quiet_time() -> None:
    assert numbers((0, 0), (30, 0), (59, 0), (60, 0), instances=4) == [4, 4, 4, 1]
    assert numbers((0, 0), (30, 310), (59, 0), (60, 0), instances=4) == [4, 4, 4, 4]


def test_no_more_are_removed_than_were_unneeded_all_the_time() -> None:
    assert numbers((0, 0), (30, 250), (60, 0), instances=5) == [5, 5, 3]


def test_the_bounds_are_kept() -> None:
    assert numbers((0, 10**9), (5, 10**9)) == [1, 5]
    assert numbers((0, 0), (60, 0), instances=2) == [2, 1]


@given(st.integers(0, 5), st.integers(5, 9), st.lists(st.tuples(st.floats(0, 50), st.integers(0, 10**6)), max_size=30))
def test_for_any_load_the_number_stays_within_the_bounds(least: int, most: int, looks: list[tuple[float, int]]) -> None:
    settings = Autoscale(least, most, 10, up=5, down=60)
    trend, instances, now = Trend(), least, 0.0
    for pause, ready in looks:
        now += pause
        trend, instances = follow(settings, trend, instances, ready, now)
        assert least <= instances <= most
