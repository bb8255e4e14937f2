"""Errors of the system, the supervisor or the broker during a check, which are no fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from runner.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_STORE, BrokerUnreachable, ConfigError, RunnerError
from runner.learn import bound_program, checker, learner_files
from runner.learn import trial as trial_module
from runner.learn.classroom_broker import ClassroomBroker
from runner.learn.exercise import Exercise, load_exercise
from runner.learn.files_seen import FilesSeen
from runner.learn.learner_files import LearnerFiles
from runner.learn.observation import Observation
from runner.learn.trial import SystemFailed, Trial
from runner.learn.verdict import Verdict
from runner.supervisor.control.client import CommandRefused
from tests.machine import in_time
from tests.rabbit import wait_until
from tests.running import ROOT


@pytest.fixture(scope="module")
def exercise() -> Exercise:
    return load_exercise(ROOT / "exercises" / "01-first-event")


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    (tmp_path / "output.log").touch()
    return Trial(tmp_path, "amqp://127.0.0.1:1/", "http://127.0.0.1:1", 1)


@pytest.mark.parametrize(
    "error",
    [
        RunnerError("no vhost"), FileNotFoundError("gone"), subprocess.TimeoutExpired("fault", 60),
        BrokerUnreachable("no answer"),
    ],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_an_error_of_the_check_is_an_error_for_each_task(
    exercise: Exercise, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def check(*_: object) -> None:
        raise error

    monkeypatch.setattr(checker, "_check_task", check)
    result = checker.check_exercise(exercise, exercise.starter, ClassroomBroker(exercise.folder))
    assert [one.verdict for one in result.tasks] == [Verdict.ERROR] * len(exercise.file.tasks)


class Silent:
    """A trial that shows nothing, because its broker has died."""

    def check_exit(self) -> None:
        """The supervisor runs."""

    def observe(self, _: object) -> Observation:
        return Observation(is_busy=True)

    def check_broker(self) -> None:
        raise BrokerUnreachable("no answer")


def test_a_system_without_a_broker_does_not_fail(exercise: Exercise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LearnerFiles, "seen", FilesSeen())
    task = exercise.file.tasks[0].model_copy(update={"within": 0.0})
    with pytest.raises(BrokerUnreachable):
        checker._watch(task, cast(Trial, Silent()), LearnerFiles(exercise, exercise.starter))


@pytest.mark.parametrize(
    ("code", "kind"), [(EXIT_CONFIG, ConfigError), (EXIT_FAILURE, SystemFailed), (EXIT_STORE, CommandRefused)]
)
def test_only_a_refusal_of_the_files_or_of_the_system_is_a_fail(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[RunnerError]
) -> None:
    def ask(*_: object, **__: object) -> Iterator[dict[str, Any]]:
        yield {"line": {"level": "error", "text": "config.yaml:3: options.latency: unknown key"}}
        error = CommandRefused("not reloaded")
        error.exit_code = code
        raise error

    monkeypatch.setattr(trial_module, "ask", ask)
    with pytest.raises(kind) as caught:
        trial.control("reload")
    assert type(caught.value) is kind
    if isinstance(caught.value, ConfigError):
        assert caught.value.faults == ["config.yaml:3: options.latency: unknown key"]


@pytest.mark.parametrize(
    ("command", "kind"), [("exit 1", SystemFailed), ("exit 74", RunnerError), ("kill -9 $$", RunnerError)]
)
def test_a_killed_system_or_an_unusable_database_is_no_fail(
    trial: Trial, command: str, kind: type[RunnerError]
) -> None:
    trial._process = subprocess.Popen(["/bin/sh", "-c", command])
    trial._process.wait()
    with pytest.raises(RunnerError) as caught:
        trial.check_exit()
    assert type(caught.value) is kind


@pytest.mark.parametrize("slots", [[], [{"slot": "payment.1", "state": "STARTING"}]])
def test_a_system_that_does_not_start_in_time_is_an_error(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, slots: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(trial_module, "SLOW_START", 0.0)
    monkeypatch.setattr(trial, "slots", lambda: slots)
    with pytest.raises(RunnerError, match="has not started within"):
        trial._wait_for_start()


def test_a_process_that_fails_again_and_again_is_not_awaited(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_module, "START_TIMEOUT", 0.0)
    monkeypatch.setattr(trial, "slots", lambda: [{"slot": "payment.1", "state": "BACKOFF"}])
    trial._wait_for_start()


def test_a_plugin_whose_import_does_not_end_has_no_findings(
    tmp_path: Path, exercise: Exercise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner_files, "TIMEOUT", 0.01)
    assert LearnerFiles(exercise, exercise.starter).finding_lines() == []


def test_the_system_of_a_killed_check_is_killed() -> None:
    """The parent prints the pid of its program, and is killed."""
    program = [sys.executable, "-I", "-S", str(bound_program.__file__)]
    script = (
        "import os, subprocess, time\n"
        f"process = subprocess.Popen([*{program!r}, str(os.getpid()), '/bin/cat'], start_new_session=True,"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "process.stdin.write(b'x'); process.stdin.flush(); process.stdout.read(1)\n"
        "print(process.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        descriptor = os.pidfd_open(pid)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: _is_over(descriptor), in_time(10), "the program exits")
    os.close(descriptor)


def _is_over(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], 0)[0])


def test_a_program_whose_parent_has_exited_is_not_started() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(bound_program.__file__), "1", "/bin/echo", "x"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"")
