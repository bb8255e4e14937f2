"""docs/events.md: the fields and properties of events, as the shipped services publish them."""

from __future__ import annotations

import json
import logging
import re
import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from plugins import order_api, payment
from plugins.order_api.order import Order, created_event, order_id_for
from runner.amqp.properties import PROPERTIES, encode
from runner.messages import Event, Message, caused_by
from runner.worker.event_routing import EventRouter
from tests.keeping import NOTHING
from tests.running import ROOT

PAGE = (ROOT / "docs" / "events.md").read_text("utf-8")
EVENTS = ("order.created", "payment.success", "payment.failed")
#: The pattern of a value in a body, by the word for its type on the page.
FORMS: dict[str, Any] = {
    "UUID": lambda value: str(uuid.UUID(value)) == value,
    "text": lambda value: isinstance(value, str) and value != "",
    "decimal text": lambda value: isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value) is not None,
    "currency": lambda value: isinstance(value, str) and re.fullmatch(r"[A-Z]{3}", value) is not None,
    "text or null": lambda value: value is None or isinstance(value, str),
    "null": lambda value: value is None,
}
GIVEN = {"customer_email": "alice@example.com", "amount": "149.99", "currency": "USD"}


def chapter(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(title: str) -> dict[str, str]:
    """Return the first two cells of each row of a chapter's table."""
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in chapter(title).splitlines() if line[:2] == "| "]
    return {name.replace("`", ""): kind for name, kind in rows[1:]}


def created(**changes: Any) -> Event:
    """Return the event that order_api publishes for an order."""
    order = Order.model_validate({**GIVEN, **changes})
    event = created_event(order, order_id_for("my-first-key", order))
    return EventRouter("order_api", {"order.created": ("orders.topic", "order.created")}).routed(event)


def paid(**options: Any) -> Event:
    """Return the event that payment publishes for that order."""
    order = created()
    message = Message(order.encoded(), "payment.order.created", order.type, str(order.id), str(order.correlation_id))
    chosen = payment.Options.model_validate({"latency": "0ms", **options})
    context: Any = SimpleNamespace(log=logging.getLogger("test"))
    event = payment.handle(message, payment.start(chosen, context), NOTHING)
    publishes = {name: ("payments.topic", name) for name in EVENTS}
    return EventRouter("payment", publishes).routed(caused_by(message, event, 0, "payment"))


MADE = {
    "order.created": [created(), created(region="eu"), created(amount="5", currency="JPY")],
    "payment.success": [paid()],
    "payment.failed": [paid(decline_over="1"), paid(failure_rate=1)],
}


def test_the_page_has_a_chapter_for_each_event_of_the_shipped_services() -> None:
    config = (ROOT / "config.yaml").read_text("utf-8")
    assert set(re.findall(r"order\.created(?=\])|payment\.success|payment\.failed", config)) == set(EVENTS)
    assert tuple(re.findall(r"^## (.*)$", PAGE, re.MULTILINE)) == (*EVENTS, "Properties and headers")


@pytest.mark.parametrize("name", EVENTS)
def test_a_body_has_the_fields_of_the_page_in_their_forms(name: str) -> None:
    for event in MADE[name]:
        assert event.type == name
        body, kinds = json.loads(event.encoded()), table(name)
        assert list(body) == list(kinds)
        for field, kind in kinds.items():
            assert FORMS[kind](body[field]), (field, body[field])


@pytest.mark.parametrize("name", EVENTS)
def test_the_example_of_the_page_is_the_event_that_the_service_publishes(name: str) -> None:
    (example,) = re.findall(r"```json\n(.*?)```", chapter(name), re.DOTALL)
    assert example == json.dumps(json.loads(MADE[name][0].encoded()), indent=2) + "\n"


@pytest.mark.parametrize("name", EVENTS)
def test_the_contract_of_the_plugin_names_the_same_fields(name: str) -> None:
    bodies = {**order_api.contract(order_api.Options()).publishes, **payment.contract().publishes}
    model = bodies[name]
    assert model is not None
    assert list(model.model_fields) == list(table(name))


def test_the_reasons_of_a_declined_order_are_those_of_the_page() -> None:
    reasons = {event.body["reason"] for event in MADE["payment.failed"]}
    row = next(line for line in chapter("payment.failed").splitlines() if line.startswith("| `reason`"))
    assert reasons == set(re.findall(r"`(\w+)`", row)) - {"reason", "decline_over"}


@pytest.mark.parametrize("name", EVENTS)
def test_properties_and_headers_are_those_of_the_page(name: str) -> None:
    stated, order = set(table("Properties and headers")), created()
    for event in MADE[name]:
        properties = encode(event).properties
        headers = dict(properties.headers)
        names = {one for one in stated if not one.startswith("header ")}
        assert {one for one in PROPERTIES if getattr(properties, one) is not None} - {
            "encoded",
            "headers",
        } == names
        assert {f"header {one}" for one in headers} == {one for one in stated if one.startswith("header ")} - (
            {"header x-causation-id"} if name == "order.created" else set()
        )
        assert (properties.type, properties.content_type, properties.delivery_mode) == (name, "application/json", 2)
        assert properties.correlation_id == event.body["order_id"]
        assert properties.app_id == ("order_api" if name == "order.created" else "payment")
        assert uuid.UUID(properties.message_id).version == 5
        # Seconds and milliseconds of this century.
        assert 1.7e9 < properties.timestamp < 5e9
        assert 1.7e12 < headers["x-sent-at"] < 5e12
        if name != "order.created":
            assert headers["x-causation-id"] == order.id


def test_the_same_message_causes_the_same_event_with_the_same_id() -> None:
    assert created().id == created().id
    assert paid().id == paid().id
