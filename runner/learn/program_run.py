"""Runs of the program itself, for the systems and the files of a check."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from runner.invocation import SOURCE


def program_environment() -> dict[str, str]:
    """Return the environment of a process that imports this program's package."""
    path = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
    # The messages of a trial are disposable, so its start need not wait until the queues would survive a power cut.
    return {**os.environ, "PYTHONPATH": path, "FASTCOMMERCE_SETTLE": "0"}


def run_program(folder: Path, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a command on a project's folder. Raises TimeoutExpired after ``timeout`` seconds."""
    return subprocess.run(
        [sys.executable, "-m", "runner", "--project", str(folder), *arguments],
        env=program_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        timeout=timeout, check=False,
    )  # fmt: skip
