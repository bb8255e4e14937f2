"""The choice of the queues whose counts are read: busy queues in each second, and all others in turns."""

from __future__ import annotations

import pytest

from runner.admin.queue_counts import QueueCounts
from runner.config.project import load_project
from runner.dashboard.count_rounds import PART_TURNS, RECENT, TURNS, CountRounds
from runner.dashboard.queue_figures import QueueFigures
from runner.topology.compile import compile_topology
from tests.running import ROOT

ORDERS = "payment.order.created"
DEAD = f"{ORDERS}.dlq"


class Reader:
    """The rounds of a reader to which all queues have answered once."""

    def __init__(self) -> None:
        project = load_project(ROOT, {})
        self.figures = QueueFigures(project, compile_topology(project.topology, project.consumed))
        self.now = 1000.0
        self.rounds = CountRounds(self.figures, lambda: self.now)
        self.rounds.counted(dict.fromkeys(self.figures.asked, QueueCounts(0, 0)), {})

    def turns(self, count: int = PART_TURNS) -> list[list[str]]:
        return [self.rounds.choose() for _ in range(count)]


@pytest.fixture
def reader() -> Reader:
    return Reader()


def test_each_empty_queue_takes_its_turn(reader: Reader) -> None:
    names = set(reader.figures.names)
    assert ORDERS in names
    assert DEAD not in names
    rounds = reader.turns(TURNS * PART_TURNS)
    asked = [name for one in rounds for name in one]
    assert {name: asked.count(name) for name in reader.figures.asked} == {
        name: PART_TURNS if name in names else TURNS for name in reader.figures.asked
    }
    assert max(map(len, rounds)) < len(reader.figures.asked) / 2


def test_a_queue_with_messages_or_with_recent_steps_is_asked_in_each_round(reader: Reader) -> None:
    reader.rounds.counted({"unrouted.all": QueueCounts(1, 0)}, {})
    reader.rounds.add([{"edges": [["delivered", ORDERS, "", 1], ["published", "notification.order.events", "", 9]]}])
    rounds = reader.turns()
    assert all({"unrouted.all", ORDERS} <= set(one) for one in rounds)
    assert not all("notification.order.events" in one for one in rounds)
    assert not all(DEAD in one for one in rounds)
    reader.now += RECENT
    assert not all(ORDERS in one for one in reader.turns())


def test_a_queue_that_has_not_answered_yet_is_asked_in_each_round(reader: Reader) -> None:
    reader.rounds.counted({}, {DEAD: "its node is down"})
    assert DEAD not in reader.rounds.counts
    assert all(DEAD in one for one in reader.turns())


def test_a_dead_letter_queue_with_messages_is_asked_in_each_round_until_it_is_empty(reader: Reader) -> None:
    reader.rounds.counted({DEAD: QueueCounts(1, 0)}, {})
    assert all(DEAD in one for one in reader.turns())
    reader.rounds.counted({DEAD: QueueCounts(0, 0)}, {})
    assert sum(DEAD in one for one in reader.turns()) == 1


def test_a_queue_that_does_not_exist_takes_its_turn(reader: Reader) -> None:
    reader.rounds.counted({DEAD: None}, {})
    assert sum(DEAD in one for one in reader.turns()) == 1


@pytest.mark.parametrize("kind", ["retried", "dead_lettered", "rejected"])
def test_after_a_failed_attempt_the_queues_of_its_message_are_asked_in_each_round_for_a_while(
    reader: Reader, kind: str
) -> None:
    edges = [["handled", ORDERS, "", 7], [kind, ORDERS, "", 1]]
    reader.rounds.add([{"edges": edges}])
    assert all(DEAD in one for one in reader.turns())
    reader.now += RECENT
    reader.rounds.add([{"edges": edges}])
    assert sum(DEAD in one for one in reader.turns()) == 1
    reader.rounds.add([{"edges": [[kind, ORDERS, "", 2]]}])
    assert all(DEAD in one for one in reader.turns())
