"""Thousands of simulated runs of the delivery pipeline: no message is lost, and no event is published twice."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.proof import times
from tests.simulation import run
from tests.simulation.unacked_delivery import STAGES

SEEDS = times(450, 50_000)
#: In this run, a publisher that was blocked publishes an event again, and the second publish finds no queue.
LATE_CONFIRM = 9289
#: The minimum number of hits of each window. Otherwise the runs prove too little.
LEAST = times(6, 20)
WINDOWS = (
    *(f"{what}: {stage}" for what in ("crash", "lose consumer", "lose publisher") for stage in STAGES),
    "a commit is repeated because its response was lost",
    "a death, alone",
    "a death, outside",
    "a death, shared",
    "a handler waits for room in the window",
    "a negative confirm",
    "a publisher is blocked",
    "a publisher is blocked between a return and its confirm",
    "a return before its confirm",
    "a second delivery while the first is handled in another worker",
    "a second delivery while the first is handled in the same worker",
    "a blamed message is handled alone",
    "a retry queue or the dead-letter queue is missing",
    "an ack beyond a gap",
    "an ack is lost and the message is delivered again",
    "confirms out of order",
    "one ack for several deliveries",
    "one confirm for several messages",
    "dead-lettered for crashing its workers",
    "an effect twice without an inbox",
)


@pytest.mark.timeout(1800)
def test_every_message_is_handled_or_dead_lettered_under_any_faults_and_each_window_is_hit() -> None:
    windows: Counter[str] = Counter()
    for seed in (*range(1, SEEDS + 1), LATE_CONFIRM):
        windows += run(seed).windows
    assert {window: windows[window] for window in WINDOWS if windows[window] < LEAST} == {}


def test_the_same_seed_produces_the_same_history() -> None:
    for seed in range(1, times(15, 40)):
        assert run(seed).history == run(seed).history
