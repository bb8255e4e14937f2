"""Tests of one group run in one process. Some share a broker, and some must not disturb each other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.running import ROOT

SOURCE = """
import os, pytest

@pytest.mark.xdist_group("one process")
@pytest.mark.parametrize("number", range(6))
def test_grouped(number):
    with open("processes", "a") as file:
        print(os.getpid(), file=file)

@pytest.mark.parametrize("number", range(6))
def test_others(number):
    pass
"""


def test_tests_of_one_group_run_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(SOURCE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-n", "3",
         "--dist", "loadgroup", str(tmp_path / "test_inner.py")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    processes = (tmp_path / "processes").read_text().split()
    assert len(processes) == 6
    assert len(set(processes)) == 1
