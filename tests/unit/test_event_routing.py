"""The exchange and the routing key of a service's event."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import PluginError
from runner.messages import Event
from runner.worker.event_routing import EventRouter, routing_key

ROUTER = EventRouter(
    "payment",
    {
        "payment.success": ("payments.topic", "payment.success"),
        "payment.failed": ("payments.topic", "payment.failed.{currency}.{reason}"),
    },
)


def test_an_event_is_routed_as_publishes_says() -> None:
    event = ROUTER.routed(Event("payment.success", {}))
    assert (event.exchange, event.routing_key) == ("payments.topic", "payment.success")


def test_fields_of_the_event_fill_its_routing_key() -> None:
    event = ROUTER.routed(Event("payment.failed", {"currency": "EUR", "reason": "card_declined"}))
    assert event.routing_key == "payment.failed.eur.card_declined"


def test_an_event_s_own_exchange_and_key_are_kept() -> None:
    own = Event("unknown", {}, exchange="", routing_key="some.queue")
    assert ROUTER.routed(own) is own
    known = ROUTER.routed(Event("payment.success", {})).exchange
    assert ROUTER.routed(Event("payment.success", {}, exchange=known)).routing_key == "payment.success"
    with pytest.raises(PluginError, match="exchange 'other' is missing; add it"):
        ROUTER.routed(Event("payment.success", {}, exchange="other"))
    keyed = ROUTER.routed(Event("payment.failed", {}, routing_key="own.key"))
    assert (keyed.exchange, keyed.routing_key) == ("payments.topic", "own.key")


def test_an_event_that_publishes_does_not_name_is_a_plugin_error() -> None:
    with pytest.raises(PluginError) as caught:
        ROUTER.routed(Event("payment.sucess", {}))
    assert str(caught.value) == (
        "services.payment.publishes: event 'payment.sucess' is missing; did you mean 'payment.success'?"
    )
    with pytest.raises(PluginError, match="none is defined"):
        EventRouter("audit", {}).routed(Event("a", {}))


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("EUR", "eur"),
        ("", "none"),
        (None, "none"),
        ({"a": 1}, "none"),
        ([1], "none"),
        (3, "3"),
        (True, "true"),
        (Decimal("1.50"), "1-50"),
        ("a.b", "a-b"),
        ("*", "-"),
        ("#", "-"),
        ("north west", "north-west"),
        ("\u00c9cole", "-cole"),
    ],
)
def test_a_field_is_one_word(value: object, word: str) -> None:
    assert routing_key("order.{field}.end", {"field": value}) == f"order.{word}.end"


@pytest.mark.parametrize("body", [{}, b"bytes", None, ["list"], "text"])
def test_a_field_that_the_event_lacks_keeps_its_place(body: object) -> None:
    assert routing_key("order.created.{currency}", body) == "order.created.none"


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcdefgh"), st.text() | st.integers() | st.none() | st.floats()))
def test_the_number_of_words_never_depends_on_the_event(body: dict[str, Any]) -> None:
    key = routing_key("x.{a}.{b}.y.{c}", body)
    assert key.count(".") == 4
    assert not set("*# ") & set(key)
    assert "" not in key.split(".")


def test_a_routing_key_fits_an_amqp_short_string_however_long_the_fields_are() -> None:
    body = dict.fromkeys("abcdefgh", "x" * 1000)
    key = routing_key("x.{a}.{b}.{c}.{d}.{e}.{f}.{g}.{h}", body)
    assert len(key.encode()) <= 255
    assert key.count(".") == 8
