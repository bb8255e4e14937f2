"""Orders at a steady rate during all kinds of fault injection: none is lost, paid twice or reported twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.plan import KINDS
from tests.running import ROOT

#: The short form of ``make chaos``. It injects the same faults each time, at least one of every kind. Faults that need
#: the runner have enough time after the others.
SECONDS, RATE, EVERY, SEED = 31, 8, 2, 19892


@pytest.mark.timeout(600)
@pytest.mark.xdist_group("load")
def test_fault_injection_of_all_kinds_loses_no_order_and_repeats_none(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "tests.chaos", "--seconds", str(SECONDS), "--rate", str(RATE), "--every", str(EVERY),
        "--seed", str(SEED), "--output", str(tmp_path / "out"),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as chaos:
        try:
            said, _ = chaos.communicate(timeout=500)
        except subprocess.TimeoutExpired:
            # The chaos run stops all processes that it started.
            chaos.terminate()
            said, _ = chaos.communicate(timeout=60)
        print(said)
    assert chaos.returncode == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["holds"]
    assert report["orders"] >= 0.8 * SECONDS * RATE
    assert report["checked"]["figures"]["accepted"] >= 0.95 * report["orders"]
    injected = {kind for kind, row in report["faults"].items() if row["count"]}
    # The store can become full only if a separate disk can be mounted.
    assert injected >= {one.name for one in KINDS} - {"store full"}
    assert "<svg" in (tmp_path / "out" / "chart.svg").read_text()
    assert "nothing was lost, and nothing happened twice" in said
