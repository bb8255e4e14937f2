"""The frame of the benchmarks: figures, goals, table, chart, rates, and one quick run."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench.chart import chart
from bench.figure import Figure, number
from bench.progress import rate
from bench.table import table
from tests.running import ROOT

FAST = Figure.beside("publish", "msg/s", [80, 90, 100], [30, 20, 10], "C client", "ratio >= 0.8")
SLOW = Figure.beside("start", "s", [2.0, 2.2], [1.0, 1.2], "another client", "ratio >= 1", less_is_better=True)
ALONE = Figure.alone("memory", "MB", [39.0, 41.0], "ours <= 45")


def test_a_ratio_over_1_is_better_for_us_for_maxima_and_minima():
    assert (FAST.ours, FAST.peer, FAST.ratio) == (90, 20, 4.5)
    assert SLOW.ratio == pytest.approx(1.1 / 2.1)
    assert (ALONE.ours, ALONE.peer, ALONE.peer_name, ALONE.ratio) == (40.0, None, None, None)


@pytest.mark.parametrize(
    ("figure", "is_met"),
    [
        (FAST, True),
        (SLOW, False),
        (ALONE, True),
        (Figure.alone("memory", "MB", [46.0], "ours <= 45"), False),
        (Figure.alone("rate", "msg/s", [46.0], "ours >= 45"), True),
        (Figure.alone("rate", "msg/s", [46.0]), None),
        (Figure.beside("x", "s", [3.0], [6.0], "y", "ours <= 2", less_is_better=True), False),
    ],
)
def test_a_goal_is_met_or_missed_and_a_figure_without_a_goal_is_neither(figure: Figure, is_met: bool | None):
    assert figure.is_met() is is_met


@pytest.mark.parametrize("goal", ["ratio > 5", "5", "theirs <= 3", "ratio >= 1"])
def test_a_goal_without_enough_data_is_refused(goal: str):
    with pytest.raises(ValueError, match="goal"):
        Figure.alone("memory", "MB", [1.0], goal)


def test_the_file_has_exactly_these_keys_and_is_json_if_a_peer_measures_nothing():
    assert FAST.as_json() == {
        "name": "publish",
        "unit": "msg/s",
        "ours": 90.0,
        "peer": 20.0,
        "peer_name": "C client",
        "ratio": 4.5,
        "goal": "ratio >= 0.8",
    }
    nothing = Figure.beside("idle", "%", [0.0], [0.1], "another client", less_is_better=True)
    assert json.loads(json.dumps(nothing.as_json()))["ratio"] is None


def test_the_table_shows_medians_minima_maxima_ratios_and_goals():
    head, fast, slow, alone = table([FAST, SLOW, ALONE]).splitlines()
    assert head.split() == ["FIGURE", "OURS", "PEER", "PEER'S", "RATIO", "GOAL"]
    assert fast.split("  ")[0] == "publish"
    assert "90.0 (80.0-100) msg/s" in fast
    assert fast.endswith("20.0 (10.0-30.0)  4.50   ratio >= 0.8  met")
    assert slow.endswith("MISSED")
    assert alone.endswith("ours <= 45    met")


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (39.46, "39.5"), (21912.4, "21,912")]
)
def test_numbers_have_three_digits(value: float, text: str):
    assert number(value) == text


def test_the_chart_has_a_bar_for_each_ratio_and_a_line_for_each_goal_of_one():
    root = ET.fromstring(chart([FAST, SLOW, ALONE], "ours <&> theirs", "two cores"))
    bars = [one for one in root.iter() if one.get("class", "").startswith("bar")]
    assert [one.get("class") for one in bars] == ["bar", "bar missed"]
    assert sum(one.get("class") == "goal" for one in root.iter()) == 2
    assert {float(one.get("x", 0)) + float(one.get("width", 0)) <= 1110 for one in bars} == {True}
    ET.fromstring(chart([], "nothing", ""))


def test_a_rate_is_measured_between_two_shares_of_all_messages():
    samples = [(0.0, 0), (1.0, 0), (2.0, 100), (3.0, 500), (4.0, 1000)]
    assert rate(samples) == pytest.approx(900 / 2)
    assert rate(samples, 0.5, 1.0) == pytest.approx(500)
    assert rate(samples, 0.0, 0.1) == pytest.approx(100 / 2)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


def test_all_measurements_are_listed():
    done = run("--list")
    assert done.returncode == 0
    assert {line.split()[0] for line in done.stdout.splitlines()} >= {
        "backlog", "consume", "inbox", "publish", "supervisor", "workers",
    }  # fmt: skip


def test_a_quick_run_measures_and_writes_its_results(tmp_path: Path):
    done = run("--quick", "--only", "publish", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "latest.json").read_text())
    pika = next(one for one in results if one["peer_name"].startswith("pika SelectConnection"))
    assert pika["name"] == "confirmed publish, classic queue"
    assert pika["ours"] > 0
    assert pika["ratio"] == pytest.approx(pika["ours"] / pika["peer"], rel=0.01)
    ET.fromstring((tmp_path / "latest.svg").read_text())
    assert "pika, a connection per message" in done.stdout
