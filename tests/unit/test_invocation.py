"""The beginning of printed commands, for each way to start Python and each folder."""

from __future__ import annotations

import ast
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import prerequisite
from runner.__main__ import start
from runner.invocation import (
    PROJECT_VARIABLE,
    SOURCE,
    VARIABLE,
    callable_path,
    invocation,
    invoked_for,
    reset_invocation,
)

#: The beginning of a command that a person may copy.
COMMAND = re.compile(r"-m runner|\bmake (run|reset|test)\b|\bfastcommerce (?=[a-z]+\b)")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with an interpreter of a virtual environment in it."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(PROJECT_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "/usr/bin")
    return tmp_path


def test_an_interpreter_is_named_as_a_shell_in_this_folder_finds_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = str(here / ".venv" / "bin" / "python")
    assert callable_path(mine) == ".venv/bin/python"
    monkeypatch.chdir(here / ".venv" / "bin")
    assert callable_path(mine) == "./python"
    monkeypatch.chdir("/usr")
    assert callable_path(mine) == mine
    # As in an activated environment.
    monkeypatch.setenv("PATH", f"{here}/.venv/bin:/usr/bin")
    assert callable_path(mine) == "python"
    # Another environment links to the same interpreter, and has other packages.
    other = here / "other" / "bin"
    other.mkdir(parents=True)
    (other / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{other}:{here}/.venv/bin")
    assert callable_path(mine) == mine
    assert callable_path("/a b/bin/python") == "'/a b/bin/python'"


def test_a_program_that_was_started_by_its_own_name_is_printed_by_this_name(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = here / ".venv" / "bin" / "fastcommerce"
    program.symlink_to("/bin/true")
    monkeypatch.setattr(sys, "argv", [str(program), "check"])
    assert invocation("plan") == ".venv/bin/fastcommerce plan"
    monkeypatch.setenv("PATH", f"{here}/.venv/bin:/usr/bin")
    assert invocation("plan") == "fastcommerce plan"
    with invoked_for(Path("a b")):
        assert invocation() == "fastcommerce --project 'a b'"
    # In a checkout that is not installed.
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    monkeypatch.chdir(SOURCE)
    assert invocation() == f"PYTHONPATH={SOURCE} fastcommerce"


def test_a_program_whose_folder_is_relative_is_found_after_a_change_of_the_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/fastcommerce", "--version"])
    with pytest.raises(SystemExit):
        start()
    monkeypatch.chdir("/usr")
    assert invocation() == f"{here}/.venv/bin/fastcommerce"


def test_a_project_elsewhere_is_named_and_the_current_folder_is_not(here: Path) -> None:
    (here / "shop").mkdir()
    (here / "a b").mkdir()
    prefix = f"{callable_path(sys.executable)} -m runner"
    for project, option in (
        (".", ""),
        (str(here), ""),
        ("shop/..", ""),
        ("shop", " --project shop"),
        (str(here / "shop"), f" --project {here}/shop"),
        ("a b", " --project 'a b'"),
    ):
        with invoked_for(Path(project)):
            assert invocation("status") == f"{prefix}{option} status"
    assert invocation() == prefix


def test_each_argument_is_one_word_of_the_shell() -> None:
    words = ["apply", "--replace", "my queue; rm -rf $HOME", "", "it's"]
    assert shlex.split(invocation(*words))[-5:] == words


def test_a_child_process_prints_what_its_parent_would_print(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with invoked_for(Path("shop")):
        inherited = os.environ[VARIABLE]
        assert invocation("plan") == f"{inherited} plan"
    assert not {VARIABLE, PROJECT_VARIABLE} & set(os.environ)
    monkeypatch.setenv(VARIABLE, inherited)
    monkeypatch.chdir("/")
    assert invocation("plan") == f"{inherited} plan"


def test_a_child_command_for_the_same_project_keeps_the_prefix_of_the_users_shell(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with invoked_for(Path("shop")):
        inherited = os.environ[VARIABLE]
        monkeypatch.chdir("/")
        with invoked_for(here / "shop"):
            assert invocation("plan") == f"{inherited} plan"
        with invoked_for(here / "other"):
            assert invocation("plan") == f"{callable_path(sys.executable)} -m runner --project {here}/other plan"
        assert invocation("plan") == f"{inherited} plan"


def test_a_package_from_a_variable_of_this_shell_is_found_by_the_command_too(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert invocation().startswith(callable_path(sys.executable))
    monkeypatch.setenv("PYTHONPATH", f"/somewhere:{SOURCE}")
    assert invocation().startswith(f"PYTHONPATH=/somewhere:{SOURCE} ")
    monkeypatch.chdir(SOURCE)
    assert invocation().startswith(callable_path(sys.executable))


def test_the_command_that_forgets_a_project_is_for_that_project(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "shop" / "runner").mkdir(parents=True)
    assert reset_invocation(Path("shop")) == f"rm -r {here}/shop/var"
    assert reset_invocation(Path()) == "rm -r var"
    assert reset_invocation(SOURCE) == f"make -C {SOURCE} reset"
    monkeypatch.chdir(SOURCE)
    assert reset_invocation(Path()) == "make reset"


def texts_of(path: Path) -> Iterator[str]:
    """Yield the texts in a module, except docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_no_message_builds_its_own_command() -> None:
    # The programs of child processes are not for people.
    programs, pages = {"runner/broker/container.py", "runner/broker/node.py"}, {"runner/config/manual.py"}
    allowed = {"runner/invocation.py", *programs, *pages}
    found = {
        str(path.relative_to(SOURCE))
        for folder in ("runner", "plugins")
        for path in (SOURCE / folder).rglob("*.py")
        if COMMAND.search(path.read_text("utf-8")) and any(COMMAND.search(text) for text in texts_of(path))
    }
    assert found == allowed, "use invocation()"


def test_an_old_python_or_a_missing_package_is_one_line_with_a_command(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = f"install the required packages with: {SOURCE}/deploy/setup.sh run"
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    monkeypatch.setattr(sys, "argv", ["runner", "order", "history", "a b"])
    monkeypatch.setattr(prerequisite, "SOURCE", here)
    prepared = "use .venv/bin/python -m runner order history 'a b'"
    missing = ModuleNotFoundError("No module named 'pika'", name="pika.spec")
    assert prerequisite.missing_package(missing) == f"/usr/bin/python3: the package 'pika' is not installed; {prepared}"
    old = ImportError("cannot import name 'ConfigDict' from 'pydantic' (x.py)", name="pydantic")
    assert prerequisite.missing_package(old) == (
        "/usr/bin/python3: the package 'pydantic' cannot be used,"
        f" cannot import name 'ConfigDict' from 'pydantic' (x.py); {prepared}"
    )
    assert prerequisite.old_python() is None
    monkeypatch.setattr(sys, "version", "3.9.2 (default)")
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert prerequisite.old_python() == f"/usr/bin/python3: Python 3.9.2 is too old (minimum 3.11); {prepared}"
    (here / ".venv" / "bin" / "python").unlink()
    assert (prerequisite.old_python() or "").endswith("is too old (minimum 3.11); install a later version")
    assert prerequisite.missing_package(missing) == (
        "/usr/bin/python3: the package 'pika' is not installed;"
        " install the package; to list all missing packages, run: /usr/bin/python3 -m pip check"
    )
    monkeypatch.setattr(prerequisite, "SOURCE", SOURCE)
    monkeypatch.setattr(sys, "executable", str(SOURCE / ".venv" / "bin" / "python"))
    assert (prerequisite.missing_package(missing) or "").endswith(f"the package 'pika' is not installed; {setup}")


@pytest.mark.parametrize("name", ["__init__", "__main__", "invocation", "prerequisite"])
def test_an_old_python_can_read_the_modules_that_refuse_it(name: str) -> None:
    source = (SOURCE / "runner" / f"{name}.py").read_text("utf-8")
    assert "from __future__ import annotations" in source
    ast.parse(source, feature_version=(3, 7))


@pytest.mark.parametrize("name", ["runner.amqp.nothing", "runner", "plugins.x", "_sqlite3", None])
def test_a_module_of_ours_or_of_python_is_no_missing_package(name: str | None) -> None:
    assert prerequisite.missing_package(ImportError("no", name=name)) is None
