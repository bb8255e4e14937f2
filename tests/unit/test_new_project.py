"""``init`` writes a project that has no errors and no findings, and overwrites nothing."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from runner.cli.main import main
from tests.running import ROOT

NAMES = {
    ".gitignore", "compose.yaml", "config.yaml", "docs/schema/config.json", "docs/schema/topology.json",
    "plugins/large_orders.py", "test_large_orders.py", "topology.yaml",
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder. This tree is installed, for this process and its children."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (group,) = project["entry-points"]
    entries = "".join(f"{name} = {value}\n" for name, value in project["entry-points"][group].items())
    metadata = tmp_path / "installed" / "fastcommerce-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.4\nName: fastcommerce\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{entries}")
    monkeypatch.syspath_prepend(metadata.parent)
    monkeypatch.setenv("PYTHONPATH", f"{metadata.parent}:{ROOT}")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def call(*arguments: str) -> tuple[int, str]:
    """Return the exit code and the output of a command."""
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    return done.exit_code, done.output


def files_of(folder: Path) -> dict[str, str]:
    """Return the text of each file below a folder."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_new_project_has_no_error_and_no_finding_and_its_files_are_short(here: Path) -> None:
    code, output = call("init", "new/my shop")
    assert code == 0, output
    assert "  cd 'new/my shop' " in output
    files = files_of(here / "new" / "my shop")
    assert set(files) == NAMES
    assert all(text.count("\n") < 40 for name, text in files.items() if name.endswith(".yaml"))
    assert call("--project", "new/my shop", "lint") == (0, "no findings\n")
    code, output = call("--project", "new/my shop", "check")
    assert [line.split()[1] for line in output.splitlines() if line.startswith("service")] == [
        "order_api", "payment", "notification", "audit", "dashboard", "large_orders",
    ]  # fmt: skip


def test_both_files_of_a_new_project_begin_with_the_shipped_ones(here: Path) -> None:
    assert call("init", ".")[0] == 0
    for name in ("config.yaml", "topology.yaml"):
        assert (here / name).read_text().startswith((ROOT / name).read_text())
        schema = f"docs/schema/{name.partition('.')[0]}.json"
        assert (here / name).read_text().splitlines()[0].endswith(f"$schema={schema}")
        assert json.loads((here / schema).read_text()) == json.loads((ROOT / schema).read_text())


def test_compose_accepts_the_file_of_a_new_project_and_runs_the_broker_of_the_shipped_one(here: Path) -> None:
    call("init", ".")
    file = yaml.safe_load((here / "compose.yaml").read_text())
    jsonschema.validate(file, json.loads((ROOT / "tests" / "compose" / "compose-spec.json").read_text()))
    shipped = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["rabbitmq"]
    assert file["services"]["rabbitmq"].items() >= {name: shipped[name] for name in ("image", "ports")}.items()


@pytest.mark.parametrize(
    ("present", "words"),
    [
        (["topology.yaml"], "already contains topology.yaml"),
        (["compose.yaml", ".gitignore"], "already contains compose.yaml and 1 other project file"),
    ],
)
def test_no_file_is_overwritten(here: Path, present: list[str], words: str) -> None:
    for name in present:
        (here / name).write_text("mine")
    assert call("init", ".") == (1, f".: {words}; allowed: a new folder\n")
    assert files_of(here) == dict.fromkeys(present, "mine")


def test_a_dangling_link_counts_as_a_file(here: Path) -> None:
    (here / "config.yaml").symlink_to("nothing")
    assert call("init", ".")[0] == 1
    assert not (here / "nothing").exists()


def test_a_failed_write_is_one_line_and_leaves_no_file(here: Path) -> None:
    (here / "docs").write_text("mine")
    code, output = call("init", ".")
    assert (code, output) == (1, "docs/schema: cannot be written, Not a directory\n")
    assert files_of(here) == {"docs": "mine"}


def test_a_folder_that_is_a_file_or_given_by_project_is_a_usage_error(here: Path) -> None:
    (here / "f").write_text("mine")
    code, output = call("init", "f")
    assert (code, output.splitlines()[-1]) == (2, "Error: Invalid value for 'DIR': Directory 'f' is a file.")
    code, output = call("--project", ".", "init", "x")
    assert code == 2
    assert output.splitlines()[-1].startswith("Error: init does not accept --project; allowed: ")
    assert not (here / "x").exists()


def test_the_next_commands_are_not_broken_on_a_narrow_terminal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("init_command", "terminal"):
        monkeypatch.setattr(f"runner.cli.{name}.terminal_width", lambda: 80)
    code, output = call("init", "shop")
    assert code == 0
    written, _, following = output.partition("next:\n")
    assert all(len(line) <= 80 for line in written.splitlines())
    lines = following.splitlines()
    assert lines[:2] == ["  # the other commands run in this folder", "  cd shop"]
    assert lines[-2] == "  # lists all commands"
    assert lines[-1].endswith(" -m runner --help")
