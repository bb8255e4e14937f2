"""The checks find bugs that are put into a copy of the product. So a check that finds none can be believed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.mutant import MUTANTS, Mutant
from tests.chaos.round import Rounds, shown
from tests.proof import IS_FULL, times
from tests.rabbit import Rabbit, Vhost, wait_until

SIMULATED = [one for one in MUTANTS if one.is_simulated]
#: The short form tests two mutants that the simulation cannot find, both in one run. Each makes a different front door
#: lose orders, and the report names the door.
SHORT = {"202 does not wait for the confirm", "what the relay could not publish is marked as sent"}
REAL = (
    [[one] for one in MUTANTS if one.point is not None] if IS_FULL else [[one for one in MUTANTS if one.name in SHORT]]
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", SIMULATED, ids=str)
def test_the_simulation_finds_the_bug(mutant: Mutant, tmp_path: Path) -> None:
    source = mutant.make(tmp_path / "tree")
    found = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seeds", f"1-{times(500, 3000)}"],
        cwd=source, env={**os.environ, "PYTHONPATH": str(source)}, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    print(found.stdout[-3000:], found.stderr[-3000:])
    assert found.returncode == 1
    # The simulation fails by its own check, not by an unexpected error.
    assert re.match(r"seed \d+: [a-z ]+: ", found.stdout), found.stdout + found.stderr
    assert "Traceback" not in found.stdout + found.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutants", REAL, ids=lambda mutants: " and ".join(map(str, mutants)))
def test_a_process_that_exits_at_a_step_reveals_the_bug(mutants: list[Mutant], tmp_path: Path, vhost: Vhost) -> None:
    first, *others = mutants
    tree = first.make(tmp_path / "tree")
    for other in others:
        other.apply(tree)
    points = [one.point for one in mutants if one.point is not None]
    rounds = Rounds(tmp_path / "rounds", vhost, f"sqlite:///{tmp_path}/shop.db", tree)
    try:
        rounds.start()
        if points[0].service == "dlq":
            rounds.dead_letter_orders(4)
            rounds.points.arm(points[0])
            assert rounds.replay() != 0
            rounds.replay()
        else:
            rounds.end_at(*points)
        verdict = rounds.settled()
        print(shown(verdict))
        assert verdict.violations
        if others:
            assert rounds.ports_with_losses() == {*rounds.shop.doors}
    finally:
        rounds.close()


@pytest.mark.skipif(not IS_FULL, reason="a part of make chaos-full")
@pytest.mark.timeout(300)
def test_a_kill_of_the_broker_reveals_messages_that_are_not_persistent(tmp_path: Path) -> None:
    mutant = Mutant("not persistent", "runner/amqp/properties.py", "PERSISTENT = 2\n", "PERSISTENT = 1\n")
    for source, is_found in ((mutant.make(tmp_path / "tree"), True), (None, False)):
        rabbit = Rabbit(tmp_path / f"broker-{is_found}")
        vhost = rabbit.make_vhost("shop")
        folder = tmp_path / f"rounds-{is_found}"
        database = f"sqlite:///{tmp_path}/{is_found}.db"
        rounds = Rounds(folder, vhost, database, source) if source is not None else Rounds(folder, vhost, database)
        try:
            runner = rounds.start()
            assert rounds.tell("stop", "points") == 0
            rounds.order()
            wait_until(lambda vhost=vhost: vhost.queues()["points.events"].get("messages") == 12, 20, "they wait")  # type: ignore[misc]
            rabbit.kill()
            rabbit.start()
            runner.wait_for("publisher: the broker is back", 40)
            assert rounds.tell("start", "points") == 0
            verdict = rounds.settled()
            print(shown(verdict))
            assert bool(verdict.violations) == is_found
        finally:
            rounds.close()
            rabbit.stop()
