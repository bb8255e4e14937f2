"""Injected hangs. The stopped process continues in the end, also after kills, clears and further hangs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.faults import release
from runner.faults.active import ActiveFault, FaultFolder
from runner.proc import Identity
from tests.rabbit import wait_until

SLOT, NAME = "payment.1", "pause.payment.1"


@pytest.fixture
def victim() -> Iterator[Identity]:
    """Yield a process that sleeps."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        found = Identity.of(process.pid)
        assert found is not None
        yield found
        process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> FaultFolder:
    return FaultFolder(tmp_path)


def hang(folder: FaultFolder, victim: Identity, seconds: float) -> subprocess.Popen[str]:
    """Start a process that stops the victim for the given seconds."""
    words = [str(folder.path.parent), SLOT, str(victim.pid), str(victim.start), str(seconds)]
    return subprocess.Popen([sys.executable, "-m", release.__name__, *words], stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    """Return the first line that the process prints."""
    assert process.stdout is not None
    return process.stdout.readline()


def test_the_shortest_hang_ends_too(folder: FaultFolder, victim: Identity) -> None:
    for _ in range(5):
        with hang(folder, victim, 0.001) as process:
            assert first_line(process).startswith("stopped ")
            assert process.wait(20) == 0
        assert victim.state != "T"
        assert list(folder.path.iterdir()) == []


def test_a_hang_ends_by_itself_even_if_no_process_reads_its_output(folder: FaultFolder, victim: Identity) -> None:
    with hang(folder, victim, 0.5) as process:
        assert process.stdout is not None
        process.stdout.close()
        wait_until(lambda: victim.state == "T", 20, "it is stopped")
        assert process.wait(20) == 0
    assert victim.state != "T"


def test_clear_continues_a_process_whose_hang_command_was_killed(folder: FaultFolder, victim: Identity) -> None:
    with hang(folder, victim, 600) as process:
        first_line(process)
        process.kill()
    assert victim.state == "T"
    assert [one.process for one in folder.clear()] == [victim]
    wait_until(lambda: victim.state != "T", 10, "it continues")
    assert folder.clear() == []


def test_clear_continues_a_process_that_is_stopped_after_its_hang_expired(
    folder: FaultFolder, victim: Identity
) -> None:
    folder.write(NAME, ActiveFault("pause", SLOT, time.time() - 10, 9.0, process=victim))
    victim.send(signal.SIGSTOP)
    victim.wait_stopped(10)
    assert [one.process for one in folder.clear()] == [victim]
    wait_until(lambda: victim.state != "T", 10, "it continues")


def test_clear_during_the_start_of_a_hang_leaves_no_process_stopped(folder: FaultFolder, victim: Identity) -> None:
    with hang(folder, victim, 600) as process:
        wait_until(lambda: folder.read(NAME), 20, "it begins")
        folder.clear()
        assert process.wait(20) == 0
    assert victim.state != "T"
    assert list(folder.path.iterdir()) == []


def test_a_second_hang_is_refused_during_the_first(folder: FaultFolder, victim: Identity) -> None:
    with hang(folder, victim, 600) as first:
        first_line(first)
        with hang(folder, victim, 0.001) as second:
            assert first_line(second).startswith(f"failed {SLOT}: pause lasts until ")
            second.wait(20)
        assert victim.state == "T"
        folder.clear()
        with hang(folder, victim, 600) as third:
            assert first_line(third).startswith("stopped ")
            first.wait(20)
            assert victim.state == "T", "the first process leaves the victim to the third"
            folder.clear()
            assert third.wait(20) == 0
    assert victim.state != "T"


def test_a_process_that_has_exited_is_not_stopped(folder: FaultFolder, victim: Identity) -> None:
    other = Identity(victim.pid, victim.start - 1)
    with hang(folder, other, 600) as process:
        assert first_line(process) == f"failed {SLOT}: pid {victim.pid} has just exited; try again\n"
    assert victim.state != "T"
    assert not folder.path.exists()
