"""Durations and names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.config.value import check_short, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("5s", 5), ("1.5s", 1.5), ("2m", 120), ("1h", 3600), ("1d", 86400), ("0s", 0), ("007s", 7)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["5", "5 s", "s", "", "-5s", "+5s", "5S", "5s ", "1e3s", ".5s", "5sec", "\u0665s", 5, 5.0, None]
)
def test_a_text_without_a_unit_or_with_a_sign_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match=r"^not a duration; allowed: a number with a unit, such as 500ms"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "500ms"), (1, "1s"), (90, "90s"), (120, "2m"), (3600, "1h"), (86400, "1d"), (0, "0ms"), (1.5, "1500ms")],
)
def test_a_duration_is_written_in_the_largest_whole_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@settings(deadline=None)
@given(st.integers(1, 10**10))
def test_a_written_duration_reads_the_same(milliseconds: int) -> None:
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


def test_a_name_may_have_255_bytes() -> None:
    assert check_short("\u00e9" * 127 + "x") == "\u00e9" * 127 + "x"
    with pytest.raises(ValueError, match="has 256 bytes; allowed: up to 255"):
        check_short("\u00e9" * 128)
