"""Thousands of lives of the delivery pipeline, each with its own faults: nothing is lost, and nothing is told twice."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.proof import times
from tests.simulation import run
from tests.simulation.held import STAGES

SEEDS = times(450, 50_000)
#: Each is hit so often at least, or the runs prove less than they seem to.
LEAST = times(6, 20)
WINDOWS = (
    *(f"{what}: {stage}" for what in ("crash", "lose consumer", "lose publisher") for stage in STAGES),
    "a commit whose answer is lost is done again",
    "a death, alone",
    "a death, outside",
    "a death, shared",
    "a handler waits for room in the window",
    "a negative confirm",
    "a publisher is blocked",
    "a publisher is blocked between a return and its confirm",
    "a return before its confirm",
    "a second delivery while the first is at work in another worker",
    "a second delivery while the first is at work in the same worker",
    "a suspect is handled alone",
    "a wait queue or the dead-letter queue is missing",
    "an ack beyond a gap",
    "an ack is lost and the message comes again",
    "confirms out of order",
    "one ack for many",
    "one confirm for many",
    "parked for killing its workers",
    "without an inbox, an effect twice",
)


@pytest.mark.timeout(1800)
def test_whatever_fails_and_whenever_every_message_is_handled_or_parked_and_each_window_was_hit() -> None:
    windows: Counter[str] = Counter()
    for seed in range(1, SEEDS + 1):
        windows += run(seed).windows
    assert {window: windows[window] for window in WINDOWS if windows[window] < LEAST} == {}


def test_the_same_seed_makes_the_same_history() -> None:
    for seed in range(1, times(15, 40)):
        assert run(seed).history == run(seed).history
