"""The decisions of the payment service, which are repeatable."""

import json
import logging
import uuid
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from plugins.payment import Options, start
from plugins.payment import handle as _handle
from runner import Message, Reject, Retry
from tests.keeping import NOTHING

handle = partial(_handle, store=NOTHING)

ORDER = {
    "order_id": "6f1c0f5e-31c8-5b6f-9c4a-6a6f0a0d1a11",
    "customer_email": "alice@example.com",
    "amount": "149.99",
    "currency": "USD",
    "region": None,
}


#: The parts of a worker's context that ``start`` uses.
CONTEXT: Any = SimpleNamespace(log=logging.getLogger("test.payment"))


def message(attempt=1, **changes) -> Any:
    body = {**ORDER, **changes}
    return Message(
        body=json.dumps(body).encode(), queue="payment.order.created", type="order.created", id="m1", attempt=attempt
    )


def gateway(**options) -> Any:
    return start(Options.model_validate({"latency": "0ms", **options}), CONTEXT)


def outcome(order_id, **options) -> Any:
    return handle(message(order_id=order_id), gateway(**options)).type


def test_an_order_is_paid():
    event = handle(message(), gateway())
    assert event.type == "payment.success"
    assert event.correlation_id == ORDER["order_id"]
    assert event.body == {
        "order_id": ORDER["order_id"],
        "payment_id": event.body["payment_id"],
        "customer_email": "alice@example.com",
        "amount": "149.99",
        "currency": "USD",
        "reason": None,
    }
    assert uuid.UUID(event.body["payment_id"]).version == 5


def test_a_declined_card_is_reported_with_the_reason():
    event = handle(message(), gateway(failure_rate=1))
    assert event.type == "payment.failed"
    assert event.body["reason"] == "card_declined"


@pytest.mark.parametrize(
    ("amount", "currency"),
    [("5", "JPY"), ("5.125", "KWD"), ("0.0001", "CLF"), ("1000000.000", "BHD"), ("10.50", "EUR")],
)
def test_the_charged_amount_is_exactly_that_of_the_order(amount, currency):
    body = handle(message(amount=amount, currency=currency), gateway()).body
    assert (body["amount"], body["currency"]) == (amount, currency)


def test_an_amount_over_the_limit_is_declined_and_the_limit_itself_is_not():
    assert handle(message(amount="150.01"), gateway(decline_over="150.00")).body["reason"] == "over_limit"
    assert handle(message(amount="150.00"), gateway(decline_over="150.00")).type == "payment.success"


@given(st.uuids().map(str), st.floats(0, 1), st.integers())
def test_a_message_that_is_delivered_twice_is_decided_the_same_way(order_id, rate, seed):
    first, second = (
        handle(message(attempt, order_id=order_id), gateway(failure_rate=rate, seed=seed)) for attempt in (1, 2)
    )
    assert first == second


@given(st.uuids().map(str))
def test_a_rate_of_0_declines_no_order_and_a_rate_of_1_all_orders(order_id):
    assert outcome(order_id, failure_rate=0) == "payment.success"
    assert outcome(order_id, failure_rate=1) == "payment.failed"


def test_the_declined_share_is_close_to_the_rate():
    declined = sum(outcome(f"order-{number}", failure_rate=0.3) == "payment.failed" for number in range(2000))
    assert 540 < declined < 660


def test_another_seed_declines_other_orders():
    orders = [f"order-{number}" for number in range(100)]
    assert [outcome(o, failure_rate=0.5) for o in orders] != [outcome(o, failure_rate=0.5, seed=1) for o in orders]


def test_a_gateway_that_never_responds_causes_a_retry():
    with pytest.raises(Retry, match=r"^gateway timed out$"):
        handle(message(attempt=3), gateway(timeout_rate=1))


def test_a_later_attempt_of_the_same_order_can_succeed():
    def times_out(attempt) -> Any:
        try:
            handle(message(attempt), gateway(timeout_rate=0.5))
        except Retry:
            return True
        return False

    first_round = [times_out(attempt) for attempt in range(1, 21)]
    assert set(first_round) == {True, False}
    assert [times_out(attempt) for attempt in range(1, 21)] == first_round


def test_the_log_shows_the_charge_and_the_decision(caplog):
    caplog.set_level(logging.DEBUG)
    event = handle(message(), gateway())
    order_id = ORDER["order_id"]
    assert [line.getMessage() for line in caplog.records] == [
        f"order {order_id}: charging 149.99 USD",
        f"order {order_id}: approved, payment {event.body['payment_id']}",
    ]
    assert {line.order for line in caplog.records} == {order_id}


def test_fields_that_another_service_added_are_ignored():
    assert handle(message(colour="red"), gateway()).type == "payment.success"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"order_id": ""}, "order_id"),
        ({"order_id": "a\nb"}, "order_id"),
        ({"order_id": "a\n"}, "order_id"),
        ({"amount": 0}, "amount"),
        ({"amount": "1.99999"}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": "1e400000"}, "amount"),
        ({"amount": None}, "amount"),
        ({"currency": "dollars"}, "currency"),
        ({"customer_email": None}, "customer_email"),
    ],
)
def test_an_unusable_order_is_rejected_by_the_name_of_its_field(changes, named):
    with pytest.raises(Reject, match=f"message m1 is not an order: {named}: "):
        handle(message(**changes), gateway())


def test_all_missing_fields_are_named_together():
    with pytest.raises(Reject) as caught:
        handle(Message(body=b"{}", queue="q", id="m2"), gateway())
    assert all(f"{name}: " in str(caught.value) for name in ("order_id", "customer_email", "amount", "currency"))


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"not json", b'"x"', b"\xff"])
def test_a_body_that_is_no_order_is_rejected(body):
    with pytest.raises(Reject):
        handle(Message(body=body, queue="q"), gateway())


@given(st.binary(max_size=50))
def test_no_body_breaks_the_handler(body):
    with pytest.raises(Reject):
        handle(Message(body=body, queue="q"), gateway())


@pytest.mark.parametrize(
    ("given_latency", "seconds"), [("50ms", 0.05), ("2s", 2), ("1m", 60), ("1.5s", 1.5), ("0ms", 0)]
)
def test_a_latency_may_be_written_in_usual_forms(given_latency, seconds):
    assert Options.model_validate({"latency": given_latency}).latency == pytest.approx(seconds)


@pytest.mark.parametrize("latency", ["fast", "50 parsecs", "-1s", -1, "2m", 61, 3, "50", "1 s", "", None, "\u0665s"])
def test_an_invalid_latency_is_refused(latency):
    with pytest.raises(ValidationError):
        Options.model_validate({"latency": latency})


@pytest.mark.parametrize(
    "options",
    [{"failure_rate": 1.1}, {"failure_rate": -0.1}, {"timeout_rate": "often"}, {"decline_over": 0}, {"sed": 1}],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        Options.model_validate(options)


def test_every_option_is_described():
    assert all(field.description for field in Options.model_fields.values())
    assert Options.model_json_schema()["properties"]["latency"]["description"]
