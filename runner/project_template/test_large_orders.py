"""Tests of the ``large_orders`` plugin. Hooks are ordinary functions, so tests can call hooks without a broker."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from plugins.large_orders import Options, handle

from runner import Message, Reject

ORDER = {"order_id": "o1", "customer_email": "alice@example.com", "amount": "149.99", "currency": "USD"}


def handle_order(body: Any, limit: int) -> None:
    """Pass an order with the given body to the plugin."""
    message = Message(json.dumps(body).encode(), queue="large_orders.created", type="order.created", id="m1")
    handle(message, Options(limit=limit), SimpleNamespace(log=logging.getLogger("test")))


@pytest.mark.parametrize(("limit", "lines"), [(150, []), (100, ["order o1 is large: 149.99 USD"])])
def test_an_order_over_the_limit_is_reported(limit: int, lines: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    handle_order(ORDER, limit)
    assert caplog.messages == lines


def test_a_message_that_is_not_an_order_is_rejected() -> None:
    with pytest.raises(Reject, match="not an order"):
        handle_order({}, limit=100)
