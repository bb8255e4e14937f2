"""Printed commands: each is run as printed, in a new shell in the folder of the user who reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import AlreadyRunning
from runner.faults.scenario import KILL, POISON
from runner.invocation import invocation, invoked_for
from runner.store.database import open_database
from runner.supervisor.lock import take_lock
from tests.amqp import channel_to
from tests.audited import fill, turn_on
from tests.rabbit import Vhost
from tests.running import ROOT, Project, printed_commands, run_printed
from tests.supervised import SLEEPS, Supervise
from tests.topologies import Shop

#: The sources of three services. The second one exits with a fatal code.
SOURCES = (SLEEPS, "sys.exit(78)", SLEEPS)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to the user's folder, which is neither the project nor the source."""
    folder = tmp_path / "at home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_the_command_that_starts_a_project_starts_that_project(here: Path, project: Project) -> None:
    config = project.config()
    config["services"]["payment"]["consume"] = []
    project.set_config(config)
    code, output = project.call("status")
    assert code == 1
    (command,) = printed_commands(output)
    done = run_printed(command, here)
    assert done.returncode == 78
    assert "services.payment.consume: unknown key" in done.stderr


def test_options_in_the_wrong_order_are_printed_in_the_right_one(here: Path, project: Project) -> None:
    for option in (["--project", str(project.folder)], [f"--project={project.folder}"]):
        done = subprocess.run(
            [sys.executable, "-m", "runner", "events", *option, "--limit", "5"],
            cwd=here, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        usage = done.stderr.partition("Try '")[2].partition("'")[0]
        assert "--limit" in run_printed(usage, here).stdout
        (command,) = printed_commands(done.stderr.partition("Error: ")[2])
        assert command.endswith(f"--project {project.folder} events --limit 5")
    assert "config.yaml, under services:" in run_printed(command, here).stderr


def test_the_error_for_an_unknown_order_prints_the_command_for_events(here: Path, project: Project) -> None:
    url = f"sqlite:///{project.folder}/shop.db"
    turn_on(project, url)
    engine = open_database(url, project.folder)
    fill(engine, ["aaaa1111"])
    engine.dispose()
    code, output = project.call("order", "history", "none")
    assert code == 1
    (command,) = printed_commands(output)
    done = run_printed(command, here)
    assert done.returncode == 0, done.stderr
    assert "aaaa1111" in done.stdout


def test_the_command_names_the_folder_that_another_runner_uses(here: Path, tmp_path: Path) -> None:
    with invoked_for(tmp_path / "a b"), take_lock(tmp_path / "a b" / "var"), pytest.raises(AlreadyRunning) as caught:
        take_lock(tmp_path / "a b" / "var")
    (command,) = printed_commands(str(caught.value))
    done = run_printed(command, here)
    assert (done.returncode, done.stderr.partition(";")[0]) == (1, f"no supervisor is running in {tmp_path}/a b")


def test_the_printed_command_replaces_the_queue(here: Path, tmp_path: Path, vhost: Vhost) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    shop.write({"queues": {"it's mine": {"type": "quorum"}}})
    assert shop.run("apply")[0] == 0
    shop.write({"queues": {"it's mine": {"type": "classic"}}}, {"payment": {"consumes": ["it's mine"]}})
    code, output = shop.run("apply")
    assert code == 3
    (command,) = printed_commands(output)
    with channel_to(vhost.url) as channel:
        channel.basic_consume("it's mine", lambda *_: None)
        done = run_printed(command, here)
        assert done.returncode == 1
        (stop,) = printed_commands(done.stderr)
        assert run_printed(stop, here).stderr.startswith(f"no supervisor is running in {shop.folder}")
    done = run_printed(command, here)
    assert done.returncode == 0, done.stderr
    assert vhost.queues()["it's mine"]["type"] == "classic"


def test_commands_for_a_runner_in_another_folder_start_like_the_client_s_own(here: Path, supervise: Supervise) -> None:
    programs = [{"service": name, "source": source} for name, source in zip("abc", SOURCES, strict=True)]
    runner = supervise(*programs)
    runner.wait_for("b.1 FATAL")
    own = printed_commands(runner.output)[0]
    run_printed(invocation("--project", str(supervise.folder), "stop", "a"), here)
    with invoked_for(supervise.folder):
        why = supervise.slots()["a.1"]["why"]
        failed = supervise.tell("start", target="b")["error"]
        supervise.tell("scale", target="a", instances=0)
        none = supervise.tell("start", target="a")["error"]
        lines = supervise.tell("logs")
    assert "ok" in lines
    commands = [printed_commands(text)[0] for text in (why, failed, none)]
    assert [one.partition(f" --project {supervise.folder} ")[2] for one in commands] == [
        "start a.1", "logs b", "scale a 1",
    ]  # fmt: skip
    assert f"--project {supervise.folder}" not in own
    logs = run_printed(commands[1], here)
    assert (logs.returncode, logs.stderr) == (0, "")
    again = [one for one in printed_commands(logs.stdout) if "start b.1" in one]
    assert again == []  # the commands below print the service's own lines
    scaled = run_printed(commands[2], here)
    assert scaled.returncode == 0, scaled.stderr
    log = run_printed(invocation("--project", str(supervise.folder), "logs", "runner"), here).stdout
    assert [one for one in printed_commands(log) if one.endswith(f"--project {supervise.folder} start b.1")]
    assert runner.stop() == 1  # for b


@pytest.mark.parametrize("scenario", [KILL, POISON], ids=lambda one: one.name)
def test_a_fault_prints_a_list_of_commands_to_observe_it(here: Path, project: Project, scenario) -> None:
    facts = {"service": "payment", "slot": "payment.1", "pid": 7, "count": "1 message", "queue": "a b", "first": "x"}
    with invoked_for(project.folder):
        _, _, look = scenario.texts({**facts, "dead_letter": "d", "keeps": True})
    assert len(look) == 2
    done = run_printed(look[0], here)
    assert done.stderr.startswith(f"no supervisor is running in {project.folder};")


@pytest.mark.parametrize("arguments", [[], ["plan"], ["lint"], ["fault", "kill", "x y"]])
def test_a_missing_package_is_reported_in_one_line_with_a_command_by_every_process(
    here: Path, tmp_path: Path, project: Project, arguments: list[str]
) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('pika', 'sqlalchemy', 'pydantic'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "runner", "--project", str(project.folder), *arguments],
        cwd=here, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": f"{blocked}:{ROOT}"},
    )  # fmt: skip
    assert done.returncode == 78
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "is not installed; " in line
    command = line.partition("install the required packages with: ")[2]
    assert not command or Path(command.split()[0]).exists()


def test_missing_packages_are_reported_in_one_line(here: Path) -> None:
    # Option -S leaves out the folders of installed packages.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "runner", "status"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    (line,) = done.stderr.splitlines()
    assert "the package 'click' is not installed; " in line
