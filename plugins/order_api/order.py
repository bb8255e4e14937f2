"""The order model, with its fields, checks, JSON Schema, ids and event."""

from __future__ import annotations

import json
import re
import time
import uuid
from decimal import Decimal
from typing import Annotated, Any, NoReturn

import iso4217
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from runner import EmailAddress, Event

#: The namespaces of ids (RFC 9562, section 5.5). Two namespaces ensure that an order and its event never share an id.
ORDER_NAMESPACE = uuid.UUID("b0a8a6a2-6c0d-5d8e-8f0a-2f7a3c1e9d01")
EVENT_NAMESPACE = uuid.UUID("b0a8a6a2-6c0d-5d8e-8f0a-2f7a3c1e9d02")

MAX_AMOUNT = 1_000_000
AMOUNT = re.compile(r"[0-9]{1,16}(\.[0-9]{1,16})?")
REGION = re.compile(r"[A-Za-z0-9_-]{1,32}")
#: The number of decimal places of each currency (ISO 4217, list one, column "Mnr unt"). Codes without this number, such
#: as gold and test codes, are omitted, because no customer can pay with such a code.
MINOR_UNITS = {currency.code: currency.exponent for currency in iso4217.Currency if currency.exponent is not None}
#: A shared encoder, because json.dumps with options would create a new encoder for each call.
_COMPACT_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
#: The smallest unit of an amount for each number of decimal places.
UNITS = {places: Decimal(1).scaleb(-places) for places in sorted(set(MINOR_UNITS.values()))}


def refuse(message: str) -> NoReturn:
    """Refuse a value. Unlike the message of a ValueError, ``message`` is not changed by pydantic."""
    raise PydanticCustomError("order", message)


def check_amount(value: Any, info: ValidationInfo) -> Decimal:
    """Return the amount with its currency's number of decimal places, without any conversion to a float."""
    currency = info.data.get("currency")
    # An order without a valid currency is refused anyway.
    places = max(UNITS) if currency is None else MINOR_UNITS[currency]
    if isinstance(value, str) and AMOUNT.fullmatch(value):
        value = Decimal(value)
    # ``True`` is an int in Python, but not a valid amount.
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        number = Decimal(value)
        if number.is_finite() and 0 < number <= MAX_AMOUNT and number == (rounded := number.quantize(UNITS[places])):
            return rounded
    allowed = f"at most {places} decimal place{'' if places == 1 else 's'}" if places else "no decimal places"
    of_currency = "" if currency is None else f" in {currency}"
    refuse(f"must be a number over 0 and at most {MAX_AMOUNT}, with {allowed}{of_currency}")


def check_currency(value: Any) -> str:
    """Return the currency's code in upper case."""
    if isinstance(value, str) and value.isascii() and value.upper() in MINOR_UNITS:
        return value.upper()
    refuse("must be an active ISO 4217 currency code, such as USD")


def check_region(value: Any) -> str | None:
    """Return the region, or None if the order has no region."""
    if value is None or (isinstance(value, str) and REGION.fullmatch(value)):
        return value
    refuse("must be 1 to 32 letters, digits, - or _")


def describe_amounts(schema: dict[str, Any]) -> None:
    """Add each currency's allowed amounts to an order's JSON Schema, because pydantic cannot derive these limits."""
    for one in (schema, *schema["properties"].values()):
        one.pop("title", None)
        one.pop("default", None)
    schema.pop("description", None)
    schema["anyOf"] = []
    for places, unit in UNITS.items():
        codes = (code for code in sorted(MINOR_UNITS) if MINOR_UNITS[code] == places)
        either_case = "|".join("".join(f"[{one}{one.lower()}]" for one in code) for code in codes)
        fraction = rf"(?:\.[0-9]{{1,{places}}}0*)?" if places else r"(?:\.0+)?"
        below = f"[0-9]{{1,{len(str(MAX_AMOUNT)) - 1}}}{fraction}"
        text = rf"^(?={AMOUNT.pattern}$)(?![0.]+$)0*(?:{below}|{MAX_AMOUNT}(?:\.0+)?)$"
        step = float(unit) if places else 1
        number = {"type": "number", "minimum": step, "maximum": MAX_AMOUNT, "multipleOf": step}
        amount = {"anyOf": [number, {"type": "string", "pattern": text}]}
        schema["anyOf"].append({"properties": {"currency": {"pattern": f"^(?:{either_case})$"}, "amount": amount}})


CURRENCY = {"type": "string", "description": "An active ISO 4217 code with a minor unit, in upper or lower case."}
ANY_AMOUNT = {
    "type": ["number", "string"],
    "description": "An amount with no more decimal places than the currency allows. Never read as a binary float.",
}


class Order(BaseModel):
    """A customer's order."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=describe_amounts)

    customer_email: EmailAddress
    # Checked before ``amount``, whose decimal places depend on the currency.
    currency: Annotated[str, BeforeValidator(check_currency), WithJsonSchema(CURRENCY)]
    amount: Annotated[Decimal, BeforeValidator(check_amount), WithJsonSchema(ANY_AMOUNT)]
    region: Annotated[
        str | None,
        BeforeValidator(check_region),
        WithJsonSchema({"type": ["string", "null"], "pattern": f"^{REGION.pattern}$"}),
    ] = None


def fields_of(order: Order, amount: str) -> dict[str, str | None]:
    """Return the order's fields for JSON, with the given text as the amount."""
    email, currency = order.customer_email, order.currency
    return {"customer_email": email, "amount": amount, "currency": currency, "region": order.region}


def identity(order: Order) -> str:
    """Return the canonical JSON of an order. Two orders are the same if their canonical JSON is equal.

    Stored ids depend on the canonical JSON, so the format must never change. The sequence of the fields is fixed, and
    the amount has at least two decimal places.
    """
    has_more = order.amount.as_tuple().exponent < -2  # type: ignore[operator]
    amount = str(order.amount) if has_more else f"{order.amount:.2f}"
    return _COMPACT_JSON.encode(fields_of(order, amount))


def order_id_for(idempotency_key: str | None, order: Order) -> str:
    """Return the id of a new order. The same order with the same key always gets the same id, so no key is stored.

    The id also depends on the order itself, so two clients that use the same key still get two orders.
    """
    if idempotency_key is None:
        return str(uuid.uuid4())
    return str(uuid.uuid5(ORDER_NAMESPACE, f"{idempotency_key}\n{identity(order)}"))


def created_event(order: Order, order_id: str) -> Event:
    """Return the ``order.created`` event, whose id is derived from the order's id."""
    return Event(
        type="order.created",
        body={"order_id": order_id, **fields_of(order, str(order.amount))},
        id=str(uuid.uuid5(EVENT_NAMESPACE, order_id)),
        correlation_id=order_id,
        timestamp=int(time.time()),
    )
