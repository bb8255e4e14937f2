"""RabbitMQ in a container. A substitute for the container engine runs the real RabbitMQ."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.broker import find
from runner.broker.find import Container, find_broker
from tests.ports import free_port
from tests.rabbit import wait_until

ROOT = Path(__file__).parent.parent.parent

#: A container engine that logs each command line, and runs the private node with the login from the environment.
ENGINE = """\
#!/bin/sh
cd {root}
echo "$*" >> {folder}/commands
case $1 in
  run) echo $$ > {folder}/pid
       exec {python} -m runner.broker.node --folder {folder}/broker --port {port} ;;
  stop) kill "$(cat {folder}/pid)" ;;
esac
"""


def test_container_is_run_in_the_foreground_and_stopped_with_its_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    port = free_port()
    engine = tmp_path / "docker"
    engine.write_text(ENGINE.format(root=ROOT, folder=tmp_path, python=sys.executable, port=port))
    engine.chmod(0o755)
    monkeypatch.setattr(find, "installed_server", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = find_broker([f"amqp://anna:topsecret@127.0.0.1:{port}/"], True, tmp_path)
    assert isinstance(found, Container)

    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            found.command,
            cwd=ROOT,
            env={**os.environ, **found.environment},
            stdin=subprocess.DEVNULL,
            stderr=stream,
            start_new_session=True,
        )
    try:
        wait_until(lambda: f"is ready on 127.0.0.1:{port}\n" in log.read_text().partition("container ")[2], 60)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(20)

    commands = (tmp_path / "commands").read_text()
    assert [line.split()[0] for line in commands.splitlines()] == ["info", "rm", "run", "stop"]
    assert "topsecret" not in commands
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_container_that_exits_by_itself_is_a_failure(tmp_path: Path):
    engine = tmp_path / "docker"
    engine.write_text('#!/bin/sh\n[ "$1" = run ] || exit 0\necho "no such image" >&2\nexit 125\n')
    engine.chmod(0o755)
    command = [sys.executable, "-m", "runner.broker.container", "--engine", str(engine), "--name", "shop"]
    done = subprocess.run(
        [*command, "--port", str(free_port())], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )

    assert done.returncode == 1
    assert "no such image" in done.stderr
    assert "container shop exited unexpectedly with code 125" in done.stderr
