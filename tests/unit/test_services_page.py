"""The page Services: rows of the table, lines of the log, and charts of rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.dashboard.page_text import MAX_CHARACTERS
from runner.dashboard.rate_history import INTERVALS, SECONDS, RateHistory
from runner.dashboard.services_page import rows_of as table_of
from runner.dashboard.slot_log import SlotLogs, rows_of
from runner.supervisor.output.line import Line


def slot(state: str = "RUNNING", **more: Any) -> dict[str, Any]:
    found = {"service": "payment", "slot": "payment.1", "role": "holder", "state": state, "why": "", "problem": ""}
    return {**found, "restarts": 0, "last_exit": None, "messages_per_second": 0.0, **more}


def frame(**slots: dict[str, Any]) -> dict[str, Any]:
    named = {name.replace("_", "."): one for name, one in slots.items()}
    return {"slots": named, "services": {"payment": {"count": len(slots)}, "audit": {"count": 0}}, "runner": {}}


@pytest.mark.parametrize(
    ("one", "level"),
    [
        (slot(), ""),
        (slot(problem="the gateway does not answer"), "warn"),
        (slot("BACKOFF"), "warn"),
        (slot("WAITING"), "warn"),
        (slot("FATAL"), "bad"),
        (slot("STOPPED"), "off"),
        (slot("EXITED", last_exit={"code": 0, "words": "exited with status 0", "at": 0}), ""),
        (slot("EXITED", last_exit={"code": 3, "words": "exited with status 3", "at": 0}), "bad"),
    ],
)
def test_only_slots_that_are_not_normal_are_marked(one: dict[str, Any], level: str) -> None:
    (row,) = table_of(frame(payment_1=one), None, RateHistory(), "dashboard")[0].slots
    assert row.level == level


def test_the_last_exit_is_shown_if_a_slot_restarted() -> None:
    last = {"code": -9, "words": "killed by SIGKILL", "at": 0}
    for state, restarts, is_shown in (("RUNNING", 0, False), ("RUNNING", 1, True), ("STOPPED", 0, False)):
        one = slot(state, restarts=restarts, last_exit=last)
        (row,) = table_of(frame(payment_1=one), None, RateHistory(), "dashboard")[0].slots
        assert row.last_exit.endswith(": killed by SIGKILL") == is_shown
    failed = slot("FATAL", last_exit=last, lines=["Traceback", "OSError: too many open files"])
    (row,) = table_of(frame(payment_1=failed), None, RateHistory(), "dashboard")[0].slots
    assert row.last_line == "OSError: too many open files"


def test_the_filter_finds_services_and_slots() -> None:
    found = frame(payment_1=slot(), payment_2=slot(slot="payment.2"))

    def shown(words: str) -> list[tuple[str, list[str]]]:
        table = table_of(found, None, RateHistory(), "dashboard", words)
        return [(one.facts.name, [row.key for row in one.slots]) for one in table]

    assert shown("") == [("payment", ["payment.1", "payment.2"]), ("audit", [])]
    assert shown("PAY") == [("payment", ["payment.1", "payment.2"])]
    assert shown(".2") == [("payment", ["payment.2"])]
    assert shown("nothing") == []


def test_errors_and_tracebacks_of_a_log_are_marked() -> None:
    texts = [
        "order accepted", "WARNING: slow", "ERROR: the gateway failed", "Traceback (most recent call last):",
        '  File "payment.py", line 8', "ValueError: no", "order accepted",
        '{"level": "ERROR", "message": "as JSON", "slot": "p.1"}', '{"level": 3}', "{",
    ]  # fmt: skip
    rows = rows_of([Line(1.0, "p.1", text) for text in texts] + [Line(2.0, "runner", "p.1 FATAL", "error")])
    assert [row[2] for row in rows] == ["", "warn", "bad", "bad", "bad", "bad", "", "bad", "", "", "bad"]
    assert rows[7][3] == "as JSON"
    assert rows[-1] == [2.0, "runner", "bad", "ERROR: p.1 FATAL"]


def test_tracebacks_of_two_slots_are_marked_apart_and_long_lines_are_cut() -> None:
    lines = [("a.1", "Traceback (most recent call last):"), ("b.1", "fine"), ("a.1", "KeyError"), ("a.1", "x" * 5000)]
    rows = rows_of([Line(1.0, *one) for one in lines])
    assert [row[2] for row in rows] == ["bad", "", "bad", ""]
    assert rows[-1][3] == f"{'x' * MAX_CHARACTERS}… and 1,000 more characters"


def test_a_log_without_a_supervisor_shows_the_reason(tmp_path: Path) -> None:
    found = SlotLogs(tmp_path).of("payment")
    assert found["lines"] == []
    assert "no supervisor is running" in found["problem"]


def test_a_chart_ends_at_the_current_interval_and_has_gaps_where_no_page_was_open() -> None:
    rates = RateHistory()
    slots = {"payment.1": {"messages_per_second": 4.0}}
    assert rates.add(1000.0, slots)
    assert not rates.add(1001.0, {"payment.1": {"messages_per_second": 2.0}})
    assert rates.add(1000.0 + SECONDS, slots)
    assert rates.add(1000.0 + 5 * SECONDS, slots)
    first, second = rates.points("payment.1", INTERVALS - 1, 23)
    # 3 messages a second on average, and then 4.
    assert first == [(INTERVALS - 6, 22 - 15.0), (INTERVALS - 5, 2.0)]
    assert second == [(INTERVALS - 1, 2.0)]
    assert rates.points("audit.1", 10, 10) == []


def test_a_history_is_bounded() -> None:
    rates = RateHistory()
    for number in range(3 * INTERVALS):
        rates.add(number * SECONDS, {f"payment.{number % 2}": {"messages_per_second": None}})
    assert sum(len(line) for line in rates.points("payment.1", 100, 20)) <= INTERVALS
    assert set(rates._averages) == {"payment.1"}
