"""Child processes of a test process stop with it and with their test, whatever way both end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rabbit import wait_until
from tests.reaper import MARK, command_line, marked
from tests.running import ROOT, Runner

#: A process in its own session that only SIGKILL stops, with an orphaned grandchild.
IGNORES_SIGNALS = """
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
    started.append(subprocess.Popen([sys.executable, "-c", {IGNORES_SIGNALS!r}]))

def wait():
    open("ready", "w").close()
    time.sleep(600)
"""
WAITS = LIGHT + "\ndef test_one():\n    start()\n    wait()\n"
#: A test that uses all fixtures that start processes: a broker, a database, a supervisor with its workers.
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
#: The options that load the plugin for several processes.
XDIST = ("-p", "xdist.plugin")
#: Seconds until all processes are gone: the guardian's time, plus some for a busy machine.
EXIT_TIMEOUT = 20.0


def begin(folder: Path, source: str, *options: str) -> Runner:
    """Run a file of tests with the fixtures of this suite in a separate process."""
    (folder / "test_inner.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "tests.conftest"]
    arguments = ["--rootdir", str(folder), "--basetemp", str(folder / "base"), *options, "test_inner.py"]
    # It takes longer to import all installed plugins than to run these tests.
    environment = {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "PYTEST_XDIST_WORKER": "gw4"}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_timeout"}
    return Runner([*command, *arguments], folder, environment)


def ours() -> dict[int, str]:
    """Return the live processes that this test has started, with their command lines."""
    return {pid: command_line(pid) for pid in marked(os.environ[MARK])}


def wait_gone() -> None:
    wait_until(lambda: not ours(), EXIT_TIMEOUT, f"all is gone: {ours()}")


def is_ready(runner: Runner, folder: Path) -> Callable[[], bool]:
    def check() -> bool:
        assert runner.process.poll() is None, runner.output
        return (folder / "ready").exists()

    return check


def test_all_servers_stop_with_a_killed_suite_of_several_processes(tmp_path: Path) -> None:
    runner = begin(tmp_path, FULL, *XDIST, "-n", "1")
    wait_until(is_ready(runner, tmp_path), 90, "all is started")
    found = " ".join(ours().values())
    for program in ("runner.broker.node", "beam.smp", "postgres", "runner.worker payment", "guardian.py"):
        assert program in found
    runner.process.kill()
    runner.process.wait(20)
    wait_gone()


def test_all_processes_of_a_suite_stop_when_a_signal_stops_the_suite(tmp_path: Path) -> None:
    runner = begin(tmp_path, WAITS)
    wait_until(is_ready(runner, tmp_path), 60, "it runs")
    wait_until(lambda: len(ours()) >= 4, 20, "the suite, its guardian, and two deaf processes")
    assert runner.stop(signal.SIGTERM) == -signal.SIGTERM
    wait_gone()


def test_all_processes_of_a_suite_stop_when_its_process_group_is_killed(tmp_path: Path) -> None:
    runner = begin(tmp_path, WAITS)
    wait_until(is_ready(runner, tmp_path), 60, "it runs")
    runner.signal_group(signal.SIGKILL)
    assert runner.process.wait(60) == -signal.SIGKILL
    wait_gone()


def test_an_interrupted_suite_stops_its_processes(tmp_path: Path) -> None:
    runner = begin(tmp_path, WAITS)
    wait_until(is_ready(runner, tmp_path), 60, "it runs")
    assert runner.stop(signal.SIGINT, 60) in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.TESTS_FAILED)
    wait_gone()


def test_processes_of_a_crashed_xdist_worker_stop_before_the_suite_ends(tmp_path: Path) -> None:
    other = "\ndef test_two():\n    while not os.path.exists('crashed'):\n        time.sleep(0.02)\n    wait()\n"
    crash = "\ndef test_one():\n    start()\n    open('crashed', 'w').close()\n    os.kill(os.getpid(), 9)\n"
    runner = begin(tmp_path, LIGHT + other + crash, *XDIST, "-n", "2", "--max-worker-restart", "0")
    wait_until(is_ready(runner, tmp_path), 60, "the other one goes on")
    wait_until(
        lambda: not [one for one in ours().values() if "signal.SIG_IGN" in one],
        EXIT_TIMEOUT,
        "the processes that it left are gone",
    )
    assert runner.process.poll() is None
    runner.process.kill()
    runner.process.wait(20)
    wait_gone()


BROKEN = "@pytest.fixture\ndef {0}():\n    start()\n{1}    1 / 0\n\ndef test_{0}({0}):\n    pass\n"
#: Tests that leave processes behind, by name, each with its expected outcomes in order.
LEAVING = {
    "passes": ("def test_passes():\n    start()\n", ["PASSED", "ERROR"]),
    "fails": ("def test_fails():\n    start()\n    assert False\n", ["FAILED", "ERROR"]),
    "skips": ("def test_skips():\n    start()\n    pytest.skip()\n", ["SKIPPED", "ERROR"]),
    "begins_badly": (BROKEN.format("begins_badly", ""), ["ERROR", "ERROR"]),
    "ends_badly": (BROKEN.format("ends_badly", "    yield\n"), ["PASSED", "ERROR"]),
}
#: Ways to start a process other than ``start``.
WAYS = {
    "posix_spawn": "os.posix_spawn(SLEEP[0], SLEEP, os.environ)",
    "system": "os.system('sleep 600 > /dev/null 2>&1 &')",
    "popen": "subprocess.Popen('sleep 600', shell=True)",
}


def test_processes_that_a_test_leaves_are_reported_and_killed_before_the_next_test(
    tmp_path: Path,
) -> None:
    tests = LEAVING | {name: (f"def test_{name}():\n    {way}\n", ["PASSED", "ERROR"]) for name, way in WAYS.items()}
    after = "\ndef test_after_{}(reaper):\n    assert len(reaper_module.marked(reaper.mark)) == 1\n"
    source = f"{LIGHT}\nimport shutil\nfrom tests import reaper as reaper_module\nreaper_module.PATIENCE = 0.2\n"
    source += "SLEEP = [shutil.which('sleep'), '600']\n"
    source += "\n".join(test + after.format(name) for name, (test, _) in tests.items())
    runner = begin(tmp_path, source, "-v", "-W", "ignore")
    assert runner.process.wait(60) == pytest.ExitCode.TESTS_FAILED
    runner.stop()
    found = re.findall(r"^test_inner\.py::test_(\w+) ([A-Z]+)", runner.output, re.MULTILINE)
    for name, (_, outcomes) in tests.items():
        assert [outcome for one, outcome in found if one == name] == outcomes, runner.output
        assert [outcome for one, outcome in found if one == f"after_{name}"] == ["PASSED"], runner.output
    # Only lines of tracebacks count, also of exception groups. The summary repeats more or less of them, depending on
    # its width.
    line = r"^[E |]+ AssertionError: the test left processes, which were killed"
    assert len(re.findall(line, runner.output, re.MULTILINE)) == len(tests)


def test_a_process_with_a_foreign_environment_is_not_killed(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"], MARK: "another"})
    try:
        assert stranger.pid not in marked(os.environ[MARK])
    finally:
        stranger.kill()
        stranger.wait()
