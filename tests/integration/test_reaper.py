"""Processes that a test process starts end with it, however it ends, and with their test, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rabbit import wait_until
from tests.reaper import MARK, command_line, marked
from tests.running import ROOT, Runner

#: A process that only SIGKILL ends, in a session of its own, with a child whose parent has exited.
DEAF = """
import os, signal, time
for number in (1, 2, 3, 15):
    signal.signal(number, signal.SIG_IGN)
os.setsid()
if os.fork() == 0 and os.fork():
    os._exit(0)
time.sleep(600)
"""
LIGHT = f"""
import os, subprocess, sys, time
import pytest

started = []

def start():
    started.append(subprocess.Popen([sys.executable, "-c", {DEAF!r}]))

def wait():
    open("ready", "w").close()
    time.sleep(600)
"""
WAITS = LIGHT + "\ndef test_one():\n    start()\n    wait()\n"
#: All processes that the fixtures start: a broker, a database, a supervisor with its workers.
FULL = (
    LIGHT
    + """
def test_one(project, vhost, postgres, supervise):
    supervise("ready()\\ntime.sleep(600)").pid_of("child1.1")
    runner = project.run(url=vhost.url)
    runner.wait_for("everything is RUNNING")
    wait()
"""
)
#: Seconds until all processes are gone: the guardian's time, and more for a busy machine.
GONE = 20.0


def begin(folder: Path, source: str, *options: str, prefix: tuple[str, ...] = ()) -> Runner:
    """Run a file of tests with the fixtures of this suite, in a process of its own."""
    (folder / "test_inner.py").write_text(source)
    command = [*prefix, sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "tests.conftest"]
    arguments = ["-q", "--rootdir", str(folder), "--basetemp", str(folder / "base"), *options, "test_inner.py"]
    environment = {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "PYTEST_XDIST_WORKER": "gw4"}
    return Runner([*command, *arguments], folder, environment)


def ours() -> dict[int, str]:
    """Return the live processes that this test has started, with their command lines."""
    return {pid: command_line(pid) for pid in marked(os.environ[MARK])}


def wait_gone() -> None:
    wait_until(lambda: not ours(), GONE, f"all is gone: {ours()}")


def is_ready(runner: Runner, folder: Path) -> Callable[[], bool]:
    def check() -> bool:
        assert runner.process.poll() is None, runner.output
        return (folder / "ready").exists()

    return check


def test_all_servers_end_with_a_killed_suite_of_several_processes(tmp_path: Path) -> None:
    runner = begin(tmp_path, FULL, "-n", "1")
    wait_until(is_ready(runner, tmp_path), 90, "all is started")
    found = " ".join(ours().values())
    for program in ("runner.broker.node", "beam.smp", "postgres", "runner.worker payment", "guardian.py"):
        assert program in found
    runner.process.kill()
    runner.process.wait(20)
    wait_gone()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_all_processes_of_a_suite_end_with_it_whatever_the_signal(tmp_path: Path, number: signal.Signals) -> None:
    runner = begin(tmp_path, WAITS, "-p", "no:xdist")
    wait_until(is_ready(runner, tmp_path), 60, "it runs")
    wait_until(lambda: len(ours()) >= 4, 20, "the suite, its guardian, and two deaf processes")
    assert runner.stop(number) == -number
    wait_gone()


def test_a_suite_that_is_interrupted_ends_its_processes(tmp_path: Path) -> None:
    runner = begin(tmp_path, WAITS, "-p", "no:xdist")
    wait_until(is_ready(runner, tmp_path), 60, "it runs")
    assert runner.stop(signal.SIGINT, 60) in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.TESTS_FAILED)
    wait_gone()


def test_a_suite_whose_time_is_over_ends_its_processes(tmp_path: Path) -> None:
    runner = begin(tmp_path, WAITS, "-p", "no:xdist", prefix=("timeout", "--signal=KILL", "4"))
    assert runner.process.wait(60) != 0
    wait_gone()


@pytest.mark.parametrize("end", ["os._exit(7)", "os.kill(os.getpid(), 9)"])
def test_processes_of_a_crashed_xdist_worker_end_with_it_and_not_with_the_suite(tmp_path: Path, end: str) -> None:
    other = "\ndef test_two():\n    while not os.path.exists('crashed'):\n        time.sleep(0.02)\n    wait()\n"
    crash = f"\ndef test_one():\n    start()\n    open('crashed', 'w').close()\n    {end}\n"
    runner = begin(tmp_path, LIGHT + other + crash, "-n", "2", "--max-worker-restart", "0")
    wait_until(is_ready(runner, tmp_path), 60, "the other one goes on")
    wait_until(
        lambda: not [one for one in ours().values() if "signal.SIG_IGN" in one],
        GONE,
        "the processes that it left are gone",
    )
    assert runner.process.poll() is None
    runner.process.kill()
    runner.process.wait(20)
    wait_gone()


BROKEN = "@pytest.fixture\ndef broken():\n    start()\n{}    1 / 0\n\ndef test_one(broken):\n    pass\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def test_one():\n    start()\n", "2 passed, 1 error"),
        ("def test_one():\n    start()\n    assert False\n", "1 failed, 1 passed, 1 error"),
        ("def test_one():\n    start()\n    pytest.skip()\n", "1 passed, 1 skipped, 1 error"),
        (BROKEN.format(""), "1 passed, 2 errors"),
        (BROKEN.format("    yield\n"), "2 passed, 1 error"),
    ],
)
def test_processes_left_by_a_test_are_ended_before_the_next_test_and_reported(
    tmp_path: Path, source: str, said: str
) -> None:
    source = f"{LIGHT}\nfrom tests import reaper\nreaper.PATIENCE = 0.5\n{source}"
    source += "\ndef test_two(reaper):\n    from tests.reaper import marked\n    assert len(marked(reaper.mark)) == 1\n"
    runner = begin(tmp_path, source, "-p", "no:xdist")
    assert runner.process.wait(60) == pytest.ExitCode.TESTS_FAILED
    runner.stop()
    assert said in runner.output
    assert "the test left processes behind, which are ended now" in runner.output
    wait_gone()


WAYS = {
    "posix_spawn": "os.posix_spawn(SLEEP[0], SLEEP, os.environ)",
    "system": "os.system('sleep 600 > /dev/null 2>&1 &')",
    "popen": "subprocess.Popen('sleep 600', shell=True)",
}


def test_processes_are_noticed_whichever_way_a_test_starts_them(tmp_path: Path) -> None:
    source = f"{LIGHT}\nimport shutil\nfrom tests import reaper\nreaper.PATIENCE = 0.2\n"
    source += "SLEEP = [shutil.which('sleep'), '600']\n"
    source += "".join(f"\ndef test_{name}():\n    {way}\n" for name, way in WAYS.items())
    runner = begin(tmp_path, source + "\ndef test_none():\n    pass\n", "-p", "no:xdist", "-W", "ignore")
    assert runner.process.wait(60) == pytest.ExitCode.TESTS_FAILED
    runner.stop()
    assert f"{len(WAYS) + 1} passed, {len(WAYS)} errors" in runner.output


def test_a_process_with_an_environment_of_its_own_is_not_mistaken_for_ours(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"], MARK: "another"})
    try:
        assert stranger.pid not in marked(os.environ[MARK])
    finally:
        stranger.kill()
        stranger.wait()
