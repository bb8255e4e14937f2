"""Charge each new order at a simulated card gateway.

The outcome of an order depends on its id and the ``seed`` alone, never on chance: a message that is
delivered twice is decided the same way twice. With ``inbox: true`` each charge is also a row of the table
``charges``, one for each order for good: an order that has one is never sent to the gateway again.
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

#: A payment's id is the UUIDv5 of its order's id in this namespace.
PAYMENT_NAMESPACE = uuid.UUID("3d0ce3a6-0b5f-5f0e-8d3c-5b1f5a7c2e44")
#: Decimal places that the amounts of any currency have at most (ISO 4217).
PLACES = 4

Rate = Annotated[float, Field(ge=0, le=1)]


class Options(BaseModel):
    """The options of the plugin payment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    failure_rate: Rate = Field(0.0, description="The share of orders whose card is declined.")
    timeout_rate: Rate = Field(0.0, description="The share of attempts in which the gateway does not answer.")
    latency: Duration = Field(0.05, ge=0, le=60, description="How long the gateway takes to answer.")
    seed: int = Field(0, description="Selects the orders to decline; the same seed always declines the same orders.")
    decline_over: Decimal | None = Field(None, gt=0, description="Larger amounts are declined; null: no limit.")


class OrderToPay(BaseModel):
    """The fields of ``order.created`` that a payment needs; others are ignored."""

    model_config = ConfigDict(frozen=True)

    order_id: str = Field(pattern=r"^[!-~]{1,64}$")
    customer_email: str = Field(min_length=1, max_length=254)
    amount: Decimal = Field(gt=0, max_digits=14, decimal_places=PLACES)
    currency: str = Field(pattern=r"^[A-Z]{3}$")


class ChargeOutcome(BaseModel):
    """The body of ``payment.success`` and ``payment.failed``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    order_id: str = Field(description="The order's id.")
    payment_id: str = Field(description="The payment's id, a UUID that follows from the order's id.")
    customer_email: str = Field(description="The customer's address.")
    amount: str = Field(description="The amount as decimal text, such as 149.99.")
    currency: str = Field(description="An ISO 4217 code, in capitals.")
    reason: str | None = Field(description="Why the payment failed: card_declined or over_limit; null if it succeeded.")


@dataclass(frozen=True)
class Gateway:
    """A card gateway that only exists here."""

    options: Options
    log: logging.Logger

    def charge(self, order: OrderToPay, attempt: int) -> str | None:
        """Charge the order; return why it is declined, or None. Raises Retry where no answer comes."""
        if self.options.latency:
            # Even a sleep of no time at all waits 50 to 100 us for the kernel's timer.
            time.sleep(self.options.latency)
        # With the attempt in the draw, a later try of the same order can get through. No draw is below a rate of 0.
        timeout_rate, failure_rate = self.options.timeout_rate, self.options.failure_rate
        if timeout_rate and self._draw("timeout", order.order_id, attempt) < timeout_rate:
            raise Retry("gateway timed out")
        if self.options.decline_over is not None and order.amount > self.options.decline_over:
            return "over_limit"
        if failure_rate and self._draw("decline", order.order_id) < failure_rate:
            return "card_declined"
        return None

    def _draw(self, *what: object) -> float:
        """A number from 0 up to 1 that looks random and is always the same for the same arguments."""
        digest = hashlib.sha256(repr((self.options.seed, *what)).encode()).digest()
        # 53 bits are what a float holds exactly, so that 1 itself is never drawn.
        return (int.from_bytes(digest[:8]) >> 11) / 2**53


@hookimpl
def contract() -> Contract:
    """Say that each order is paid or declined."""
    return Contract(
        handles={"order.created": OrderToPay},
        publishes={"payment.success": ChargeOutcome, "payment.failed": ChargeOutcome},
        statuses={"payment.success": "paid", "payment.failed": "declined"},
    )


@hookimpl
def tables(inbox: bool) -> Tables | None:
    """Declare the table of charges, which only a service with an inbox has."""
    return Tables(charges().metadata) if inbox else None


@hookimpl
def start(options: Options, context: Context) -> Gateway:
    """Make the gateway."""
    return Gateway(options, context.log)


@hookimpl
def handle(message: Message, resources: Gateway, store: MessageStore) -> Event:
    """Charge one order and tell how it went."""
    order = read_order(message)
    charged = find_charge(order, store) if store.inbox else None
    if charged is not None:
        check_amount(order, charged)
        resources.log.info("order %s: decided before", order.order_id, extra={"order": order.order_id})
        return outcome_event(order, charged.reason)
    log, named = resources.log, {"order": order.order_id}
    log.debug("order %s: charging %s %s", order.order_id, order.amount, order.currency, extra=named)
    reason = resources.charge(order, message.attempt)
    event = outcome_event(order, reason)
    log.info("order %s: %s, payment %s", order.order_id, reason or "approved", event.body["payment_id"], extra=named)
    if store.inbox:
        keep_charge(order, reason, message, store)
    return event


def ten_thousandths(order: OrderToPay) -> int:
    """The amount as a whole number, exact for every currency."""
    return int(order.amount.scaleb(PLACES))


def payment_id(order: OrderToPay) -> str:
    """The id of an order's payment, always the same."""
    return str(uuid.uuid5(PAYMENT_NAMESPACE, order.order_id))


def outcome_event(order: OrderToPay, reason: str | None) -> Event:
    """The event that tells how it went; ``reason`` is why it was declined."""
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
    """What the ledger knows of an order."""

    reason: str | None
    ten_thousandths: int
    currency: str


def find_charge(order: OrderToPay, store: MessageStore) -> Charged | None:
    """The ledger's row of an order, or None: also of one that comes under another message id, or years later."""
    rows = store.read(_charge_of(), {"order_id": order.order_id})
    return Charged(*rows[0]) if rows else None


@cache
def charges() -> Table:
    """Return the table ``charges``: one row for each order, permanently."""
    # Imported here because only a service with an inbox needs SQLAlchemy.
    from sqlalchemy import BigInteger, Column, MetaData, Table, Text

    return Table(
        "charges",
        MetaData(),
        Column("order_id", Text, primary_key=True),
        Column("payment_id", Text, nullable=False),
        #: The amount, with as many decimal places as any currency has at most (ISO 4217).
        Column("ten_thousandths", BigInteger, nullable=False),
        Column("currency", Text, nullable=False),
        Column("reason", Text),  # why it was declined
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
    """Write the ledger's row, in the transaction of the message."""
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
            # Another delivery of the order was faster, while this one was at the gateway.
            (found,) = _charge_of().read(connection, {"order_id": order.order_id})
            check_amount(order, Charged(*found))

    store.transact(write)


def check_amount(order: OrderToPay, charged: Charged) -> None:
    """Refuse an order that was decided before over another amount. Raises Reject."""
    if (charged.ten_thousandths, charged.currency) != (ten_thousandths(order), order.currency):
        amount = Decimal(charged.ten_thousandths).scaleb(-PLACES)
        places = 2 if amount == round(amount, 2) else PLACES
        before = f"{amount:.{places}f} {charged.currency}"
        raise Reject(f"order {order.order_id} was decided before, over another amount: {before}")


def read_order(message: Message) -> OrderToPay:
    """Read the order; trying an unusable one again cannot help, so it is rejected."""
    try:
        return OrderToPay.model_validate(message.json())
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in error.errors())
        raise Reject(f"message {message.id or 'without id'} is not an order: {faults}") from None
