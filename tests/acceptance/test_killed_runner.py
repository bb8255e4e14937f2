"""A runner that is killed at any time leaves no process behind."""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from pathlib import Path

import pytest

from tests.load import Load
from tests.machine import in_time
from tests.proof import times
from tests.rabbit import Vhost, wait_until
from tests.running import Project

#: Seconds after its start within which the runner is killed. It takes about one second to be ready.
MAX_DELAY = 3.0


def processes_with(mark: str) -> dict[int, str]:
    """Return the live processes with ``mark`` in their environment: their command lines by pid."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and mark.encode() in (path / "environ").read_bytes():
                found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("load")
def test_after_kills_at_random_instants_under_load_everything_is_gone_within_3_s(
    project: Project, vhost: Vhost
) -> None:
    config = project.config()
    config["services"]["payment"]["instances"] = 2
    del config["services"]["notification"]
    project.set_config(config)
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    print(f"seed {seed}")
    load = Load(project.port, 20, clients=4)
    longest, rounds = 0.0, times(4, 200)
    for number in range(rounds):
        mark = uuid.uuid4().hex
        runner = project.run(url=vhost.url, env={"TEST_MARK": mark})
        # Each round has its own part of the time, so that few rounds still include preparation, start and work.
        delay = (number + chance.random()) / rounds * MAX_DELAY
        wait_until(lambda runner=runner, delay=delay: time.monotonic() - runner.started >= delay)  # type: ignore[misc]
        runner.process.kill()
        killed = time.monotonic()
        when = f"nothing left, round {number}, after {delay:.3f} s"
        wait_until(lambda mark=mark: not processes_with(mark), in_time(3), when)  # type: ignore[misc]
        longest = max(longest, time.monotonic() - killed)
    answers = load.stop()
    print(f"{rounds} kills, gone after {longest:.2f} s at most, {len(answers)} orders meanwhile")
    runner = project.run(url=vhost.url)
    runner.wait_for("everything is RUNNING")
    project.first_order()
    assert runner.stop() == 0
