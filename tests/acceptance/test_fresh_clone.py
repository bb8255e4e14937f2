"""``make run`` in a fresh copy of the checkout, as a newcomer's first command."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.rabbit import Vhost, wait_until
from tests.running import ROOT, Project, Runner


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Copy the files that git would give to a clone, including uncommitted changes."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in files:
        # A link to a folder is a link in the clone too.
        if os.path.lexists(ROOT / name):
            (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / "clone" / name, follow_symlinks=False)
    return tmp_path / "clone"


@pytest.mark.timeout(400)
def test_make_run_prepares_everything_and_accepts_an_order_and_a_second_run_skips_completed_steps(
    clone: Path, tmp_path: Path, vhost: Vhost
) -> None:
    project = Project(tmp_path / "only-for-its-port")
    config = clone / "config.yaml"
    config.write_text(
        config.read_text().replace("port: 8000", f"port: {project.port}").replace("port: 8080", "port: 0")
    )
    outputs = []
    # First a private broker, as in test_own_broker, then a broker that runs already.
    for url in (f"amqp://guest:guest@127.0.0.1:{free_port()}/", vhost.url):
        # Python compiles modules when it imports them. To compile all packages takes longer than the rest of the test.
        runner = Runner(["make", "run"], clone, {"RABBITMQ_URL": url, "PIP_NO_COMPILE": "1"})
        try:
            order = project.first_order(300)
            runner.wait_for(f"We have your order {order}")
            runner.wait_for(f"payment.1 .*order {order}: (approved|card_declined)")
            # Ctrl-C in a terminal also signals the whole group.
            runner.signal_group(signal.SIGINT)
            wait_until(lambda: runner.process.poll() is not None, 15)  # noqa: B023 - called within the round
            runner.wait_for("runner .*stopped$")
        finally:
            runner.signal_group(signal.SIGKILL)
        outputs.append(runner.output)
    assert "==> making .venv with Python 3." in outputs[0]
    assert "==> installing the packages of requirements.txt" in outputs[0]
    assert "==>" not in outputs[1]
    for output in outputs:
        assert "starting .venv/bin/fastcommerce; the commands for another terminal: .venv/bin/fastcommerce -" in output
    # A project of its own, beside the checkout.
    command = [str(clone / ".venv" / "bin" / "fastcommerce")]
    subprocess.run([*command, "init", "shop"], cwd=tmp_path, check=True, env={})
    subprocess.run([*command, "lint"], cwd=tmp_path / "shop", check=True, env={})
