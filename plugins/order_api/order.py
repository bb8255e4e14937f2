"""What an order is: its fields, its ids, and the event that tells of it."""

from __future__ import annotations

import re
import time
import uuid
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, NoReturn

import iso4217
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo
from pydantic_core import PydanticCustomError

from runner import Event
from runner.mailbox import plain_domain, validate_mailbox
from runner.strict_json import encode_json

#: Two namespaces (RFC 9562, section 5.5), so that an order and its event never share an id.
ORDER_NAMESPACE = uuid.UUID("b0a8a6a2-6c0d-5d8e-8f0a-2f7a3c1e9d01")
EVENT_NAMESPACE = uuid.UUID("b0a8a6a2-6c0d-5d8e-8f0a-2f7a3c1e9d02")

MAX_AMOUNT = 1_000_000
AMOUNT = re.compile(r"[0-9]{1,16}(\.[0-9]{1,16})?")
REGION = re.compile(r"[A-Za-z0-9_-]{1,32}")
#: Decimal places of each currency (ISO 4217, list one, column "Mnr unt"). Gold, test codes and "no currency" have none:
#: no customer can pay in them.
MINOR_UNITS = {currency.code: currency.exponent for currency in iso4217.Currency if currency.exponent is not None}
#: The unit that amounts are whole numbers of, by decimal places.
_UNITS = {places: Decimal(1).scaleb(-places) for places in MINOR_UNITS.values()}


def _refuse(message: str) -> NoReturn:
    # PydanticCustomError keeps the words as they are; a ValueError's get a prefix.
    raise PydanticCustomError("order", message)


def check_email(value: Any) -> str:
    """Return the address in its normal form; nothing is looked up on the network."""
    if not isinstance(value, str):
        _refuse("must be a string holding one e-mail address")
    # Of most addresses only the domain needs a closer check, and other addresses have the same one.
    domain = plain_domain(value)
    if domain is not None and _is_plain_domain(domain):
        return value
    address = _normal_form(value)
    if not address:
        _refuse("must be one e-mail address, such as alice@example.com")
    return address


@lru_cache(maxsize=4096)
def _is_plain_domain(domain: str) -> bool:
    """Return True if an address there is one, and in its normal form, if its part before the @ is."""
    return _normal_form(f"a@{domain}") == f"a@{domain}"


def _normal_form(address: str) -> str:
    """Return the address as email_validator normalizes it, or an empty string if it is none."""
    try:
        # "test environment" allows addresses below .test, as RFC 2606 has them for trying things out.
        return str(validate_mailbox(address, test_environment=True).normalized)
    except ValueError:
        return ""


def check_amount(value: Any, info: ValidationInfo) -> Decimal:
    """Return the amount with the decimal places of its currency; it is never a float on its way."""
    currency = info.data.get("currency")
    # The currency of an order that has no valid one is a fault of its own.
    places = max(_UNITS) if currency is None else MINOR_UNITS[currency]
    if isinstance(value, str) and AMOUNT.fullmatch(value):
        value = Decimal(value)
    # True is an int to Python, but not to a customer.
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        number = Decimal(value)
        if number.is_finite() and 0 < number <= MAX_AMOUNT and number == (rounded := number.quantize(_UNITS[places])):
            return rounded
    allowed = f"at most {places} decimal place{'' if places == 1 else 's'}" if places else "no decimal places"
    of_currency = "" if currency is None else f" in {currency}"
    _refuse(f"must be a number over 0 and at most {MAX_AMOUNT}, with {allowed}{of_currency}")


def check_currency(value: Any) -> str:
    """Return the currency's code in upper case."""
    if isinstance(value, str) and value.isascii() and value.upper() in MINOR_UNITS:
        return value.upper()
    _refuse("must be an active ISO 4217 currency code, such as USD")


def check_region(value: Any) -> str | None:
    """Return the region, or None where the order names none."""
    if value is None or (isinstance(value, str) and REGION.fullmatch(value)):
        return value
    _refuse("must be 1 to 32 letters, digits, - or _")


class Order(BaseModel):
    """An order as a customer sends it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    customer_email: Annotated[str, BeforeValidator(check_email)]
    # Before the amount, whose decimal places depend on it.
    currency: Annotated[str, BeforeValidator(check_currency)]
    amount: Annotated[Decimal, BeforeValidator(check_amount)]
    region: Annotated[str | None, BeforeValidator(check_region)] = None


def identity(order: Order) -> str:
    """Return what makes two orders the same, as JSON.

    It is part of ids and is stored, so an update must not change it: names in this order, at least two decimal places.
    """
    amount = order.amount if order.amount.as_tuple().exponent < -2 else f"{order.amount:.2f}"  # type: ignore[operator]
    fields = {
        "customer_email": order.customer_email,
        "amount": amount,
        "currency": order.currency,
        "region": order.region,
    }
    return encode_json(fields).decode()


def order_id_for(idempotency_key: str | None, order: Order) -> str:
    """The id of a new order; one key always gives one order the same id, so no store needs to remember keys.

    The order is part of it, so that two clients that chose the same key cannot merge their orders into one.
    """
    if idempotency_key is None:
        return str(uuid.uuid4())
    return str(uuid.uuid5(ORDER_NAMESPACE, f"{idempotency_key}\n{identity(order)}"))


def created_event(order: Order, order_id: str) -> Event:
    """Return the event ``order.created``; its id follows from the order's."""
    return Event(
        type="order.created",
        body={
            "order_id": order_id,
            "customer_email": order.customer_email,
            "amount": str(order.amount),
            "currency": order.currency,
            "region": order.region,
        },
        id=str(uuid.uuid5(EVENT_NAMESPACE, order_id)),
        correlation_id=order_id,
        timestamp=int(time.time()),
    )
