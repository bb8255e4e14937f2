"""A process that exits right before or after any step loses no order, and causes no second payment or e-mail."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest

import pytest

from tests.chaos.failpoint import EXIT_CODE, POINTS, REPLAYS, one_of_each_step
from tests.chaos.round import Rounds, shown
from tests.postgres import Postgres
from tests.proof import DATABASES, IS_FULL
from tests.rabbit import Rabbit

#: Steps that the short form omits, because other services run the same code there.
SKIPPED_STEPS = {
    *(("notification", step) for step in ("commit", "note", "ack", "dead-letter publish")),
    *(("points", step) for step in ("retry-queue publish", "dead-letter publish")),
    ("audit", "dead-letter publish"),
}
SERVICES = list(dict.fromkeys(point.service for point in POINTS))


@pytest.fixture(scope="module", params=DATABASES)
def rounds(
    request: pytest.FixtureRequest, rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rounds]:
    """Yield a shop for both tests whose processes exit at failpoints."""
    name, folder = f"test_{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("failpoints")
    database = f"sqlite:///{folder}/shop.db"
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        database = server.make_database(name)
    vhost = rabbit.make_vhost(name)
    one = Rounds(folder / "rounds", vhost, database)
    try:
        runner = one.start()
        yield one
        assert runner.stop() == 0
        # The last check includes messages that were unacked before.
        assert not one.verdict().violations, shown(one.verdict())
    finally:
        one.close()
        vhost.delete()


#: These tests share one runner for each database, so they run in one process.
pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("failpoints")]


def test_orders_are_paid_and_reported_once_although_processes_exit_at_any_step(rounds: Rounds) -> None:
    """In each round a process of each service exits at one of its steps."""
    all_points = (
        POINTS * 5
        if IS_FULL
        else [one for one in one_of_each_step(POINTS) if (one.service, one.step) not in SKIPPED_STEPS]
    )
    by_service = [[point for point in all_points if point.service == one] for one in SERVICES]
    for points in zip_longest(*by_service):
        rounds.end_at(*(point for point in points if point is not None))
    verdict = rounds.settled()
    assert not verdict.violations, shown(verdict)
    expected = Counter(point.service for point in all_points if point.when != "cut")
    said = rounds.runner.output
    ends = re.findall(rf"^\S+ runner +\| \S+: (\S+)\.\d exited with status {EXIT_CODE}: restarting", said, re.MULTILINE)
    assert Counter(ends) == expected, said


def test_orders_are_paid_once_although_their_replay_exits_at_any_step(rounds: Rounds) -> None:
    points = REPLAYS * 5 if IS_FULL else one_of_each_step(REPLAYS)
    rounds.dead_letter_orders(4 * len(points))
    for point in points:
        rounds.points.arm(point)
        # The rate is so low that only some messages are in flight when the process exits.
        assert rounds.replay("--rate", "10") == EXIT_CODE
        assert rounds.points.has_fired(point)
    assert rounds.dead_lettered_orders(), "some dead letters remain for the last replay"
    assert rounds.replay() == 0
    verdict = rounds.settled()
    assert not verdict.violations, shown(verdict)
