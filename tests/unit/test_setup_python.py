"""``deploy/setup.sh`` finds a supported Python and a browser, or names the versions of Python that it found."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.chromium import NAMES
from tests.running import ROOT

#: A program that claims to be another version of Python, and cannot create an environment.
PYTHON = """#!/bin/sh
case "$1" in
--version) echo "Python 3.{minor}.0" ;;
-c) exec {python} -c "import sys; sys.version_info = (3, {minor}, 0); exec(sys.argv[1])" "$2" ;;
*) exit 9 ;;
esac
"""
TOOLS = ("sh", "sed", "id", "dirname", "rm", "cat", "env", "cksum", "mktemp", "tail", "tr")
MADE = "==> making .venv with Python 3.{}.0"
NONE = "setup: no Python 3.11 to 3.14 found; "


def setup(folder: Path, installed: dict[str, int], python: str = "") -> tuple[int, str]:
    """Run the script with only these commands installed. Return its exit code and output."""
    commands = folder / "bin"
    commands.mkdir()
    for tool in TOOLS:
        (commands / tool).symlink_to(str(shutil.which(tool)))
    for name, minor in installed.items():
        (commands / name).write_text(PYTHON.format(minor=minor, python=sys.executable))
        (commands / name).chmod(0o755)
    (folder / "deploy").mkdir()
    for name in ("deploy/setup.sh", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    done = subprocess.run(
        [str(folder / "deploy" / "setup.sh"), "run"],
        env={"PATH": str(commands), "PYTHON": python}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("installed", "python", "said"),
    [
        ({"python3": 14}, "", MADE.format(14)),
        ({"python3": 11}, "", MADE.format(11)),
        ({"python3": 15, "python3.13": 13}, "", MADE.format(13)),
        ({"python3": 10, "python3.12": 12}, "", MADE.format(12)),
        ({"python3.11": 11, "python3.14": 14, "python3": 11}, "", MADE.format(14)),
        ({"python3.11": 11, "python3.14": 14, "python3": 11}, "python3.11", MADE.format(11)),
        ({"python3": 13, "python3.9": 9}, "python3.9", MADE.format(13)),
        ({"python3": 15}, "", f"{NONE}{{bin}}/python3 is Python 3.15.0"),
        ({"python3": 10}, "", f"{NONE}{{bin}}/python3 is Python 3.10.0"),
        ({"python3": 15, "mine": 9}, "mine", f"{NONE}{{bin}}/mine is Python 3.9.0"),
        ({}, "", f"{NONE}there is no python3"),
    ],
)
def test_the_newest_supported_python_is_used_unless_another_one_is_named(
    tmp_path: Path, installed: dict[str, int], python: str, said: str
) -> None:
    code, output = setup(tmp_path, installed, python)
    assert code != 0
    assert said.format(bin=tmp_path / "bin") in output
    assert output.count("\n") == (1 if "making" in said else 3)


@pytest.mark.parametrize("name", ["", *NAMES])
def test_each_browser_that_the_tests_use_counts_as_installed(tmp_path: Path, name: str) -> None:
    script = (ROOT / "deploy/setup.sh").read_text()
    (function,) = re.findall(r"^has_chromium\(\) \{\n.*?^\}\n", script, flags=re.MULTILINE | re.DOTALL)
    if name:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    shell = [str(shutil.which("sh")), "-c", f"{function}has_chromium"]
    assert (subprocess.run(shell, env={"PATH": str(tmp_path)}, check=False).returncode == 0) == bool(name)


def test_each_name_that_its_own_python_code_imports_exists() -> None:
    """Its output is discarded, so that a failing import would look like a broker that answers."""
    (code,) = re.findall(r"<<'PYTHON'\n(.*?)\nPYTHON\n", (ROOT / "deploy/setup.sh").read_text(), flags=re.DOTALL)
    imports = [one for one in ast.walk(ast.parse(code)) if isinstance(one, ast.ImportFrom)]
    assert imports
    for one in imports:
        assert {alias.name for alias in one.names} <= vars(importlib.import_module(str(one.module))).keys()
