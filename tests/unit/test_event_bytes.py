"""An event is the same after a database has stored it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.messages import Event
from runner.store.event_bytes import from_bytes, to_bytes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary()
    | st.decimals(allow_nan=False) | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(st.binary(), st.dictionaries(st.text(max_size=20), VALUES, max_size=4))
def test_body_and_headers_are_read_as_they_were_stored(body: bytes, headers: dict[str, object]) -> None:
    event = Event("x", body, "e", "k", headers, "id", "order", "cause", "text/plain", 5, "app")
    assert from_bytes(to_bytes([event, event])) == [event, event]


def test_a_json_body_is_read_as_the_bytes_to_send() -> None:
    (event,) = from_bytes(to_bytes([Event("x", {"amount": Decimal("1.10"), "at": datetime(2026, 1, 2)})]))
    assert event.body == b'{"amount":"1.10","at":"2026-01-02T00:00:00"}'


def test_a_header_that_amqp_has_no_type_for_is_refused() -> None:
    with pytest.raises(TypeError, match="a header cannot be stored"):
        to_bytes([Event("x", b"", headers={"a": {1, 2}})])
