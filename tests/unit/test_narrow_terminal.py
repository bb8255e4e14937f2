"""On a narrow terminal, tables lack columns, and long lines are wrapped between words."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from runner.cli import status_command
from runner.cli.main import main
from runner.cli.terminal import wrapped
from tests.running import ROOT

LONG = (
    "exited with status 1, because the gateway at payments.example.org did not answer within the limit of ten seconds"
)


def set_width(monkeypatch: pytest.MonkeyPatch, width: int | None) -> None:
    for name in ("status_command", "terminal"):
        monkeypatch.setattr(f"runner.cli.{name}.terminal_width", lambda: width)


def slot(name: str, why: str, **values: Any) -> dict[str, Any]:
    return {
        "slot": name, "service": name.partition(".")[0], "role": "holder", "state": "RUNNING", "why": why,
        "pid": 138440, "uptime": 135.0, "restarts": 0, "cpu_percent": 1.2, "memory": 49 << 20,
        "messages_per_second": 12.0, "in_hand": 0, "last_exit": None, "lines": [], **values,
    }  # fmt: skip


def status() -> str:
    """Return the table of ``status`` for two slots."""
    last_exit = {"code": 1, "words": LONG, "ago": 0}
    slots = [slot("payment.1", LONG, restarts=1, last_exit=last_exit), slot("notification.1", "ready")]
    found = {"runner": {"pid": 1, "uptime": 5, "stopping": False}, "ready": {"payment": 96}, "slots": slots}
    return status_command._text({**found, "services": {"payment": 1, "notification": 1}})


@pytest.mark.parametrize("width", [60, 80, 100, 132, 160, 200])
def test_the_status_fits_into_the_terminal_and_no_word_is_broken(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    set_width(monkeypatch, width)
    text = status()
    assert max(map(len, text.splitlines())) <= width
    assert " ".join(text.split()).count(LONG) == 2
    for value in ("payment.1", "notification.1", "138440", "RUNNING", "ready"):
        assert value in text.split()


def test_the_status_names_the_columns_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    set_width(monkeypatch, 80)
    lines = status().splitlines()
    assert lines[1].split() == ["SLOT", "STATE", "PID", "UPTIME", "RESTARTS", "CPU", "MSG/S", "READY", "IN", "FLIGHT"]
    assert lines[-1] == "no room for MEMORY; to see all columns, use a wider terminal or --json"
    set_width(monkeypatch, None)
    lines = status().splitlines()
    assert lines[1].split()[-3:] == ["IN", "FLIGHT", "WHY"]
    assert lines[2].endswith(f"  {LONG}")
    assert "no room" not in lines[-1]


@pytest.mark.parametrize("arguments", [["check"], ["route", "orders.topic", "order.created"]])
def test_the_lines_of_a_command_are_wrapped_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    texts = {}
    for width in (None, 80):
        set_width(monkeypatch, width)
        texts[width] = CliRunner().invoke(main, ["--project", str(ROOT), *arguments]).output
    assert max(map(len, texts[None].splitlines())) > 80
    assert max(map(len, texts[80].splitlines())) <= 80
    assert texts[80].split() == texts[None].split()


def test_a_word_that_is_longer_than_the_terminal_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    set_width(monkeypatch, 30)
    word = "a-word-of-more-than-thirty-characters"
    assert wrapped(f"  see {word} here", 4) == f"  see\n    {word}\n    here"
