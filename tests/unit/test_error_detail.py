"""The wording of a configuration error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.config.error_detail import ErrorDetail, Path, dotted, one_of, shown, unknown


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("services", "payment", "consumes", 0), "services.payment.consumes.0"),
        (("queues", "payment.order.created", "bind"), 'queues."payment.order.created".bind'),
        (("queues", ""), 'queues.""'),
        ((), ""),
    ],
)
def test_a_key_with_dots_is_quoted(path: Path, text: str) -> None:
    assert dotted(path) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "a mapping"),
        ([], "a list"),
        (None, "nothing"),
        (True, "true"),
        (False, "false"),
        (8000, "8000"),
        ("word", "'word'"),
        ("two\nlines", "'two\\nlines'"),
    ],
)
def test_a_value_is_shown_as_it_may_be_written_in_the_file(value: object, text: str) -> None:
    assert shown(value) == text


@settings(deadline=None)
@given(st.text() | st.integers() | st.floats())
def test_a_shown_value_is_one_short_line(value: object) -> None:
    assert len(shown(value)) <= 60
    assert "\n" not in shown(value)


def test_a_similar_word_is_suggested_and_otherwise_all_allowed_values() -> None:
    assert one_of("instence", ["instances", "prefetch"]) == "did you mean 'instances'?"
    assert one_of("xyz", ["b", "a"]) == "allowed: a, b"
    assert one_of("xyz", [f"key{number}" for number in range(10)]).endswith("key7 and 2 more")
    assert one_of("xyz", []) == "none is defined"
    assert unknown("queue", "order", ["orders"]) == "unknown queue 'order'; did you mean 'orders'?"


def test_an_error_without_a_path_has_no_empty_part() -> None:
    assert str(ErrorDetail("config.yaml", 3, "", "not YAML")) == "config.yaml:3: not YAML"
    assert str(ErrorDetail("config.yaml", 3, "broker.url", "wrong")) == "config.yaml:3: broker.url: wrong"


def test_errors_are_ordered_by_the_number_of_their_line() -> None:
    assert sorted([ErrorDetail("a", 10, "", "x"), ErrorDetail("a", 9, "", "y")])[0].line == 9
