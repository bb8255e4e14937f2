"""The seed of a run determines its faults."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.chaos.plan import KINDS, draw_faults, node_faults


def test_the_same_seed_draws_the_same_faults_and_another_seed_others() -> None:
    assert draw_faults(7, 600, 3) == draw_faults(7, 600, 3)
    assert draw_faults(7, 600, 3) != draw_faults(8, 600, 3)


@pytest.mark.parametrize("seed", range(50))
def test_every_kind_occurs_within_a_minute_and_faults_of_a_group_never_overlap(seed: int) -> None:
    faults = draw_faults(seed, 60, 3)
    assert {one.kind for one in faults} == {one.name for one in KINDS}
    groups = {one.name: one for one in KINDS if one.group}
    for name in {one.group for one in groups.values()}:
        own = [one for one in faults if one.kind in groups and groups[one.kind].group == name]
        for before, after in pairwise(own):
            assert after.at >= before.at + before.seconds + groups[before.kind].rest


def test_each_node_is_killed_in_turn_and_runs_again_before_the_next_is_killed() -> None:
    faults = node_faults(180, 20)
    assert [round(one.draw * 3) for one in faults] == [1, 2, 0, 1, 2, 0, 1, 2]
    assert all(one.seconds < 20 for one in faults)
