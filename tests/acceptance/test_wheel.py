"""The wheel in a virtual environment: ``fastcommerce init shop && cd shop && fastcommerce``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from runner import __version__
from runner.address import Address
from runner.learn.exercise import SOLUTION
from tests.ports import free_port
from tests.rabbit import Vhost
from tests.running import ROOT, Project, Runner
from tests.shipped_exercises import EXERCISES

# All tests of this module share one installation.
pytestmark = pytest.mark.xdist_group("wheel")

#: A script for each shell. It loads the completions of the program and prints those for ``fastcommerce pe`` and
#: ``fastcommerce run --w``. The functions of zsh work only during interactive input, so the script replaces one.
SHELLS = {
    "bash": """
        eval "$(fastcommerce completion bash)"
        function=$(complete -p fastcommerce | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
        COMP_WORDS=(fastcommerce pe); COMP_CWORD=1; $function fastcommerce; echo "$COMPREPLY"; COMPREPLY=()
        COMP_WORDS=(fastcommerce run --w); COMP_CWORD=2; $function fastcommerce; echo "$COMPREPLY"
    """,
    "zsh": """
        autoload -U compinit && compinit -D
        eval "$(fastcommerce completion zsh)"
        _describe() { print -l -- "${(@P)@[-2]}" }
        words=(fastcommerce pe); CURRENT=2; $_comps[fastcommerce]
        words=(fastcommerce run --w); CURRENT=3; $_comps[fastcommerce]
    """,
    "fish": """
        fastcommerce completion fish | source
        complete -C "fastcommerce pe"
        complete -C "fastcommerce run --w"
    """,
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of this checkout from its source distribution, as build frontends do."""
    folder = tmp_path_factory.mktemp("dist")
    build = "import sys; from hatchling.build import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=ROOT, check=True)
    (source,) = folder.glob("*.tar.gz")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", *offline, "-w", str(folder), str(source)], check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install the wheel in a virtual environment, and return the variables of a shell that uses it.

    The required packages are those of the tests, so that no package index is needed.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    install = [sys.executable, "-m", "pip", "--python", f"{folder}/bin/python", "install", "-q"]
    subprocess.run([*install, "--no-index", "--no-deps", "--disable-pip-version-check", str(wheel)], check=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    (packages / "required.pth").write_text(sysconfig.get_path("purelib"))
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**inherited, "PATH": f"{folder}/bin:{os.environ['PATH']}"}


class NewProject(Project):
    """A project that ``init`` creates, on a free port, with a gateway that declines no card."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self._runners = folder, free_port(), []
        config = folder / "config.yaml"
        text = config.read_text()
        for before, after in (
            ("port: 8000", f"port: {self.port}"),
            ("port: 8080", "port: 0"),
            ("failure_rate: 0.1", "failure_rate: 0.0"),
        ):
            assert text.count(before) == 1
            text = text.replace(before, after)
        config.write_text(text)


def test_a_new_project_of_the_installed_wheel_handles_an_order_up_to_both_e_mails(
    environment: dict[str, str], tmp_path: Path, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setenv("PATH", environment["PATH"])

    def shell(command: str, folder: Path) -> str:
        done = subprocess.run(
            ["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr

    assert shell("fastcommerce --version", tmp_path) == f"FastCommerce, version {__version__}\n"
    assert shell("fastcommerce run --help", tmp_path).startswith("Usage: fastcommerce run [OPTIONS] [SERVICES]...\n")
    output = shell("fastcommerce init shop", tmp_path)
    commands = [line.split("  #")[0].strip() for line in output.splitlines() if "  #" in line]
    assert commands == ["cd shop", "fastcommerce", "python -m pytest", "fastcommerce --help"]
    shop = tmp_path / "shop"
    installed = shell("python -c 'import runner; print(runner.__file__)'", shop)
    assert installed.startswith(f"{Path(environment['PATH'].partition(':')[0]).parent}/lib/")
    assert "no findings" in shell("fastcommerce lint", shop)
    assert len(shell("fastcommerce learn list", shop).splitlines()) == len(EXERCISES)
    exercise = tmp_path / "course" / "my-work" / EXERCISES[0].name
    (tmp_path / "course").mkdir()
    (exercise.parent / ".classroom").mkdir(parents=True)
    broker = {"port": Address.of(vhost.url).port, "management_url": vhost.rabbit.management}
    (exercise.parent / ".classroom" / "broker.json").write_text(json.dumps(broker))
    assert EXERCISES[0].file.title in shell("fastcommerce learn start 1", tmp_path / "course")
    shutil.copytree(EXERCISES[0].folder / SOLUTION, exercise, dirs_exist_ok=True)
    assert "2 of 2 points" in shell("fastcommerce learn check", tmp_path / "course")
    assert "start it with: fastcommerce\n" in shell("fastcommerce status", shop)
    assert "3 passed" in shell(f"cd {tmp_path} && cd shop && python -m pytest -q", tmp_path)
    project = NewProject(shop)
    runner = Runner(["fastcommerce"], shop, {"RABBITMQ_URL": vhost.url})
    try:
        order = project.first_order()
        runner.wait_for(f"notification.1 .*e-mail to alice@example.com: We have your order {order}")
        runner.wait_for(f"notification.1 .*e-mail to alice@example.com: Your order {order} is paid")
        runner.wait_for(f"large_orders.1 .*order {order} is large: 149.99 USD")
        assert "payment.1" in shell("fastcommerce status", shop)
        assert runner.stop() == 0
    finally:
        runner.process.kill()
        runner.process.wait(20)


@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in SHELLS])
def test_a_shell_completes_commands_and_options(environment: dict[str, str], tmp_path: Path, name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    bare = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[name]
    done = subprocess.run(
        [name, *bare, "-c", SHELLS[name]], env={**environment, "HOME": str(tmp_path)}, cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    # zsh and fish add the help texts.
    assert [line.replace(":", "\t").split("\t")[0] for line in done.stdout.splitlines()] == ["peek", "--watch"]


def test_the_wheel_contains_every_file_of_the_package_and_its_metadata(wheel: Path) -> None:
    information = f"fastcommerce-{__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = {one.filename for one in archive.infolist()}
        metadata = archive.read(f"{information}/METADATA").decode()
        links = [one.filename for one in archive.infolist() if one.external_attr >> 28 == 0xA]
    assert links == []
    places = {"runner": "runner", "plugins": "runner/shipped_plugins", "exercises": "runner/learn/exercises"}
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", *places]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    packed = {
        str(Path(places[path.parts[0]], *path.parts[1:])) for path in map(Path, listed) if (ROOT / path).is_file()
    }
    assert packed - names == set()
    assert {name for name in names if ".dist-info/" not in name} - packed == set()
    assert {"runner/py.typed", "runner/project_template/topology.yaml"} <= packed
    head = metadata.partition("\n\n")[0].splitlines()
    assert {"License-Expression: MIT", "Requires-Python: <3.15,>=3.11", "Description-Content-Type: text/markdown"} <= {
        *head
    }
    assert f"{information}/licenses/LICENSE" in names
