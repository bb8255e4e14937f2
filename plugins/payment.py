"""Charge each new order through a simulated card gateway.

The outcome depends only on the order's id and the ``seed``, never on chance. A message that is delivered twice
therefore has the same outcome both times.

With ``inbox: true``, the service stores each charge permanently in the ``charges`` table. An order with a stored charge
is never sent to the gateway again.
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner import Context, Contract, Duration, Event, Message, MessageStore, Reject, Retry, Tables, hookimpl

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

    from runner import Prepared

#: The namespace of payment ids. A payment's id is the UUIDv5 of the order's id.
PAYMENT_NAMESPACE = uuid.UUID("3d0ce3a6-0b5f-5f0e-8d3c-5b1f5a7c2e44")
#: The maximum number of decimal places of any currency (ISO 4217).
PLACES = 4

Rate = Annotated[float, Field(ge=0, le=1)]


class Options(BaseModel):
    """The options of the ``payment`` plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    failure_rate: Rate = Field(0.0, description="The share of orders whose card is declined, from 0 to 1.")
    timeout_rate: Rate = Field(0.0, description="The share of attempts that the gateway does not answer, from 0 to 1.")
    latency: Duration = Field(0.05, ge=0, le=60, description="The time until the gateway answers.")
    seed: int = Field(
        0, description="The seed that selects the orders to decline. The same seed always selects the same orders."
    )
    decline_over: Decimal | None = Field(
        None, gt=0, description="The largest amount that is not declined; null: no limit."
    )


class OrderToPay(BaseModel):
    """The fields of ``order.created`` that a payment needs. Other fields are ignored."""

    model_config = ConfigDict(frozen=True)

    order_id: str = Field(pattern=r"^[!-~]{1,64}$")
    customer_email: str = Field(min_length=1, max_length=254)
    amount: Decimal = Field(gt=0, max_digits=14, decimal_places=PLACES)
    currency: str = Field(pattern=r"^[A-Z]{3}$")


class ChargeOutcome(BaseModel):
    """The body of ``payment.success`` and ``payment.failed``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    order_id: str = Field(description="The order's id.")
    payment_id: str = Field(description="The payment's id, a UUID that is derived from the order's id.")
    customer_email: str = Field(description="The customer's address.")
    amount: str = Field(description="The amount as a decimal string, such as 149.99.")
    currency: str = Field(description="The currency, an ISO 4217 code in upper case.")
    reason: str | None = Field(description="card_declined or over_limit if the payment failed; null if it succeeded.")


@dataclass(frozen=True)
class Gateway:
    """A simulated card gateway."""

    options: Options
    log: logging.Logger

    def charge(self, order: OrderToPay, attempt: int) -> str | None:
        """Charge the order.

        Return the reason for a decline, or None if the charge succeeds. Raises Retry if the gateway does not answer.
        """
        if self.options.latency:
            # Even ``sleep(0)`` waits 50 to 100 µs for the kernel's timer.
            time.sleep(self.options.latency)
        # The random draw depends on the attempt, so that a later attempt for the same order can succeed.
        timeout_rate, failure_rate = self.options.timeout_rate, self.options.failure_rate
        if timeout_rate and self._draw("timeout", order.order_id, attempt) < timeout_rate:
            raise Retry("gateway timed out")
        if self.options.decline_over is not None and order.amount > self.options.decline_over:
            return "over_limit"
        if failure_rate and self._draw("decline", order.order_id) < failure_rate:
            return "card_declined"
        return None

    def _draw(self, *what: object) -> float:
        """Return a pseudo-random number from 0 up to, but not including, 1.

        The same arguments always give the same number.
        """
        digest = hashlib.sha256(repr((self.options.seed, *what)).encode()).digest()
        # A float stores 53 bits exactly, so no result is rounded to 1.
        return (int.from_bytes(digest[:8]) >> 11) / 2**53


@hookimpl
def contract() -> Contract:
    """Return the contract: each order is eventually either paid or declined."""
    return Contract(
        handles={"order.created": OrderToPay},
        publishes={"payment.success": ChargeOutcome, "payment.failed": ChargeOutcome},
        statuses={"payment.success": "paid", "payment.failed": "declined"},
    )


@hookimpl
def tables(inbox: bool) -> Tables | None:
    """Declare the table of charges, which is used only with an inbox."""
    return Tables(charges().metadata) if inbox else None


@hookimpl
def start(options: Options, context: Context) -> Gateway:
    """Create the gateway."""
    return Gateway(options, context.log)


@hookimpl
def handle(message: Message, resources: Gateway, store: MessageStore) -> Event:
    """Charge one order and return the event with the outcome."""
    order = read_order(message)
    charged = find_charge(order, store) if store.inbox else None
    if charged is not None:
        check_amount(order, charged)
        resources.log.info("order %s: already decided", order.order_id, extra={"order": order.order_id})
        return outcome_event(order, charged.reason)
    log, named = resources.log, {"order": order.order_id}
    log.debug("order %s: charging %s %s", order.order_id, order.amount, order.currency, extra=named)
    reason = resources.charge(order, message.attempt)
    event = outcome_event(order, reason)
    named["event"] = event.type
    log.info("order %s: %s, payment %s", order.order_id, reason or "approved", event.body["payment_id"], extra=named)
    if store.inbox:
        keep_charge(order, reason, message, store)
    return event


def ten_thousandths(order: OrderToPay) -> int:
    """Return the amount in ten-thousandths, a whole number that is exact for every currency."""
    return int(order.amount.scaleb(PLACES))


def payment_id(order: OrderToPay) -> str:
    """Return the id of an order's payment. An order always has the same payment id."""
    return str(uuid.uuid5(PAYMENT_NAMESPACE, order.order_id))


def outcome_event(order: OrderToPay, reason: str | None) -> Event:
    """Return the event with the outcome. ``reason`` is the reason for a decline, or None for a success."""
    return Event(
        type="payment.failed" if reason else "payment.success",
        body={
            "order_id": order.order_id,
            "payment_id": payment_id(order),
            "customer_email": order.customer_email,
            "amount": f"{order.amount:f}",
            "currency": order.currency,
            "reason": reason,
        },
        correlation_id=order.order_id,
    )


class Charged(NamedTuple):
    """The stored charge of an order."""

    reason: str | None
    ten_thousandths: int
    currency: str


def find_charge(order: OrderToPay, store: MessageStore) -> Charged | None:
    """Return the stored charge of an order, or None if there is none.

    A charge is found even years later, under any message id.
    """
    rows = store.read(_charge_of(), {"order_id": order.order_id})
    return Charged(*rows[0]) if rows else None


@cache
def charges() -> Table:
    """Return the ``charges`` table, which permanently contains a row for each order."""
    # Imported here because only a service with an inbox needs SQLAlchemy.
    from sqlalchemy import BigInteger, Column, MetaData, Table, Text

    return Table(
        "charges",
        MetaData(),
        Column("order_id", Text, primary_key=True),
        Column("payment_id", Text, nullable=False),
        #: The amount in ten-thousandths, because no currency has more decimal places (ISO 4217).
        Column("ten_thousandths", BigInteger, nullable=False),
        Column("currency", Text, nullable=False),
        Column("reason", Text),  # only for a declined order
        Column("message_id", Text, nullable=False),
        Column("charged_at", BigInteger, nullable=False),  # milliseconds since the epoch
    )


@cache
def _charge_of() -> Prepared:
    from sqlalchemy import bindparam, select

    from runner import prepared

    of = charges().c
    return prepared(select(of.reason, of.ten_thousandths, of.currency).where(of.order_id == bindparam("order_id")))


def keep_charge(order: OrderToPay, reason: str | None, message: Message, store: MessageStore) -> None:
    """Store the charge in the message's transaction."""
    from runner import insert_new

    row = {
        "order_id": order.order_id,
        "payment_id": payment_id(order),
        "ten_thousandths": ten_thousandths(order),
        "currency": order.currency,
        "reason": reason,
        "message_id": message.id,
        "charged_at": int(time.time() * 1000),
    }

    def write(connection: Connection) -> None:
        if not insert_new(connection, charges(), row):
            # Another delivery of the order was handled while this delivery was waiting for the gateway.
            (found,) = _charge_of().read(connection, {"order_id": order.order_id})
            check_amount(order, Charged(*found))

    store.transact(write)


def check_amount(order: OrderToPay, charged: Charged) -> None:
    """Raise Reject if the order was already decided for another amount."""
    if (charged.ten_thousandths, charged.currency) != (ten_thousandths(order), order.currency):
        amount = Decimal(charged.ten_thousandths).scaleb(-PLACES)
        places = 2 if amount == round(amount, 2) else PLACES
        before = f"{amount:.{places}f} {charged.currency}"
        raise Reject(f"order {order.order_id} was already decided for a different amount: {before}")


def read_order(message: Message) -> OrderToPay:
    """Return the order in a message. Raises Reject for a message that is not an order, because no retry can help."""
    try:
        return OrderToPay.model_validate(message.json())
    except ValidationError as error:
        errors = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors())
        raise Reject(f"message {message.id or 'without id'} is not an order: {errors}") from None
