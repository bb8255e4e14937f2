"""The progress of a command, as lines for another program."""

from __future__ import annotations

import time

import pytest

from runner.cli.terminal import progress


def test_progress_lines_are_printed_at_the_start_at_the_end_and_at_intervals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 10.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress("replaying", 8, is_asked=True) as show:
        show(1)
        now = 11.0
        show(2)
        show(3)
        now = 12.0
        show(9)
    assert capsys.readouterr().err.splitlines() == [f"replaying: {number} of 8" for number in (0, 2, 8)]


def test_the_last_progress_is_printed_even_if_the_command_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), progress("replaying", 8, is_asked=True) as show:  # noqa: PT012
        show(5)
        raise KeyError
    assert capsys.readouterr().err.splitlines() == ["replaying: 0 of 8", "replaying: 5 of 8"]


def test_no_progress_is_printed_to_a_file_unless_it_is_requested(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("replaying", 100_000, is_long=True) as show:
        show(5)
    assert capsys.readouterr().err == ""
