"""The resources of a supervisor after thousands of crashes, and a supervisor as the first process of a container."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner.supervisor.control.client import ask
from tests.proof import times
from tests.rabbit import wait_until
from tests.supervised import SLEEPS, Supervise, descendants

#: A child that crashes at once, in a way that does not count as fatal.
CRASHES = ["/bin/sh", "-c", "kill -KILL $$"]


@pytest.mark.timeout(900)
def test_descriptors_memory_and_zombies_stay_constant_over_thousands_of_crashes(
    supervise: Supervise, tmp_path: Path
) -> None:
    count = times(800, 10_000)
    runner = supervise({"source": "", "command": CRASHES, "instances": 4, "service": "dies"}, SLEEPS)
    runner.pid_of("child2.1")

    def restarts() -> int:
        (status,) = ask(tmp_path, "status")
        return sum(slot["restarts"] for slot in status["slots"])

    def held() -> tuple[int, int, int]:
        folder = Path(f"/proc/{runner.process.pid}")
        zombies = [pid for pid, state in descendants(runner.process.pid).items() if state == "Z"]
        memory = int(re.findall(r"VmRSS:\s+(\d+)", (folder / "status").read_text())[0])
        return len(list((folder / "fd").iterdir())), memory, len(zombies)

    # The supervisor first fills its buffer of recent lines.
    wait_until(lambda: restarts() > count // 4, 300)
    before = held()
    wait_until(lambda: restarts() >= count, 600)
    after = held()
    print(f"{restarts()} crashes: descriptors {before[0]} and {after[0]}, memory {before[1]} and {after[1]} kB,"
          f" zombies {before[2]} and {after[2]}")  # fmt: skip
    # Each of the four children may be between its exit and its restart.
    assert after[0] <= before[0] + 16
    assert after[1] <= before[1] + 3000
    assert after[2] <= 4
    assert runner.stop() == 0


def has_namespaces() -> bool:
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    return subprocess.run([unshare, *_NEW], capture_output=True, check=False).returncode == 0


_NEW = [*(["--user", "--map-root-user"] if os.geteuid() else []), "--pid", "--fork", "--mount-proc", "true"]


@pytest.mark.skipif(not has_namespaces(), reason="this machine lets nobody be the first process of a namespace")
@pytest.mark.parametrize(
    ("source", "number", "code"),
    [(SLEEPS, signal.SIGTERM, 0), (SLEEPS, signal.SIGINT, 0), ("sys.exit(78)", None, 1)],
)
def test_a_supervisor_as_the_first_process_reaps_orphans_handles_signals_and_exits_with_its_own_code(
    supervise: Supervise, tmp_path: Path, source: str, number: signal.Signals | None, code: int
) -> None:
    daemon = (
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n    time.sleep(0.2)\n"
        "    open('ended', 'w').close()\n    os._exit(0)\nos.wait()\n"
    )
    programs: list[Any] = [daemon + source] + ([] if number is None else [SLEEPS])
    runner = supervise(*programs, prefix=("unshare", *_NEW[:-1]))
    if number is not None:
        runner.wait_for("everything is RUNNING")
        assert runner.output.count("RUNNING, pid") == 2
        (first,) = Path(f"/proc/{runner.process.pid}/task/{runner.process.pid}/children").read_text().split()
        wait_until((tmp_path / "ended").exists, 5)
        wait_until(lambda: "Z" not in descendants(int(first)).values(), 5)
        os.kill(int(first), number)
    assert runner.process.wait(15) == code
