"""The facts of an order in a list, and the positions between the pages of a list."""

from __future__ import annotations

import pytest

from runner.history.order_list import Position
from runner.history.order_summary import facts_of

NONE = {"email": None, "amount": None, "currency": None}


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        ('{"customer_email": "a@b", "amount": "1.50", "currency": "USD"}', ("a@b", "1.50", "USD")),
        ('{"customer_email": "a@b", "email": "c@d", "amount": 1.5}', ("a@b", "1.5", None)),
        ('{"customer_email": 5, "email": "c@d", "amount": true, "currency": ["USD"]}', ("c@d", None, None)),
    ],
)
def test_the_facts_are_the_fields_of_the_body_that_are_present(body: str, facts: tuple[str | None, ...]) -> None:
    assert tuple(facts_of(body).values()) == facts


@pytest.mark.parametrize("body", ["", "x", "[1]", '"text"', "null", "[" * 100_000])
def test_a_body_that_is_no_object_has_no_facts(body: str) -> None:
    assert facts_of(body) == NONE


def test_a_position_is_read_back_from_its_text() -> None:
    for one in (Position(1_700_000_000_000, "a.b.c"), Position(-5, "e"), Position(0, "")):
        assert Position.parsed(str(one)) == one


@pytest.mark.parametrize("text", ["", "5", "x.e", "1e5.e", "9" * 40 + ".e", "5.\x00", "٣.e"])
def test_a_text_that_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a position, "):
        Position.parsed(text)
