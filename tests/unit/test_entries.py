"""Causes precede their effects. All other entries are ordered by time."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runner.history.entries import causal_order

KEYS = st.integers(0, 12)
TIMES = st.dictionaries(KEYS, st.integers(0, 5), max_size=12)
CAUSES = st.dictionaries(KEYS, st.frozensets(KEYS, max_size=4), max_size=12)


def named(times: dict[int, int]) -> dict[int, tuple[int, str]]:
    return {key: (time, f"{key:02}") for key, time in times.items()}


@given(TIMES, CAUSES)
def test_no_entry_is_lost_or_repeated_for_any_claims_about_causes(
    times: dict[int, int], causes: dict[int, frozenset[int]]
) -> None:
    assert sorted(causal_order(named(times), causes)) == sorted(times)


@given(TIMES, CAUSES)
def test_a_cause_precedes_its_effect_whatever_the_clocks_show(
    times: dict[int, int], causes: dict[int, frozenset[int]]
) -> None:
    # Only smaller keys cause greater ones, so that there is no circle.
    real = {key: {one for one in found if one < key} for key, found in causes.items()}
    order = causal_order(named(times), real)
    for effect, found in real.items():
        for cause in found & times.keys():
            assert effect not in times or order.index(cause) < order.index(effect)


@given(TIMES)
def test_without_causes_the_time_decides_and_then_the_name(times: dict[int, int]) -> None:
    order = causal_order(named(times), {})
    assert all((times[one], one) < (times[other], other) for one, other in pairwise(order))


@given(TIMES, CAUSES, st.randoms())
def test_the_order_does_not_depend_on_the_order_of_the_input(times, causes, random) -> None:
    shuffled = list(times.items())
    random.shuffle(shuffled)
    assert causal_order(named(dict(shuffled)), causes) == causal_order(named(times), causes)


def test_of_two_entries_that_cause_each_other_the_earlier_is_first() -> None:
    assert causal_order({"b": (2, "b"), "a": (1, "a")}, {"a": {"b"}, "b": {"a"}}) == ["a", "b"]
