"""The order that all HTTP peers accept. pydantic validates it as strictly as the product does.

FastAPI's documentation ("Extra Data Types", "Body - Fields") recommends such a model, whose fields contain their
limits.
"""

from __future__ import annotations

import time
import uuid
from decimal import Decimal
from typing import Annotated

import iso4217
from pydantic import AfterValidator, BaseModel, ConfigDict, EmailStr, Field

EXCHANGE, ROUTING_KEY = "orders.topic", "order.created"
CURRENCIES = frozenset(currency.code for currency in iso4217.Currency if currency.exponent is not None)


def check_currency(value: str) -> str:
    """Return the code in upper case. Raises ValueError."""
    if value.upper() not in CURRENCIES:
        raise ValueError("must be an active ISO 4217 currency code")
    return value.upper()


class Order(BaseModel):
    """An order as a customer sends it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    customer_email: EmailStr
    amount: Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=2)]
    currency: Annotated[str, AfterValidator(check_currency)]
    region: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")] = None


class Created(Order):
    """The body of ``order.created``."""

    order_id: str


class Accepted(BaseModel):
    """The answer."""

    order_id: str
    status: str
    event_id: str


def created(order: Order) -> tuple[Created, str, int]:
    """Return body, message id and timestamp (in seconds) of the event ``order.created``."""
    return Created(order_id=str(uuid.uuid4()), **order.model_dump()), str(uuid.uuid4()), int(time.time())
