"""The fields that the order API accepts, and the event that it publishes for an order."""

import string
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from plugins.order_api.order import MINOR_UNITS, Order, created_event, order_id_for
from runner.email_address import check_address, has_encoded_word

GOOD = {"customer_email": "alice@example.com", "amount": "149.99", "currency": "USD"}


def order(**changes) -> Any:
    return Order.model_validate({**GOOD, **changes})


def faults(**changes) -> Any:
    with pytest.raises(ValidationError) as caught:
        order(**changes)
    return {".".join(map(str, fault["loc"])): fault["msg"] for fault in caught.value.errors()}


@pytest.mark.parametrize(
    ("given_amount", "amount"),
    [
        ("149.99", "149.99"),
        (Decimal("149.99"), "149.99"),
        ("5", "5.00"),
        (5, "5.00"),
        ("0.01", "0.01"),
        (Decimal("1E+2"), "100.00"),
        (Decimal("1.500"), "1.50"),
        (1_000_000, "1000000.00"),
        ("1000000.00", "1000000.00"),
    ],
)
def test_an_amount_is_reported_with_exactly_two_places(given_amount, amount):
    assert str(order(amount=given_amount).amount) == amount


@pytest.mark.parametrize(
    "amount",
    [
        0,
        -1,
        "-1",
        "0.00",
        "0.001",
        "1.999",
        "1000000.01",
        1_000_001,
        Decimal("1E+999999999"),
        Decimal("1E-999999999"),
        10**4000,
        "",
        " 5",
        "5\n",
        "+5",
        "1e2",
        "1,50",
        "\u0665",
        "NaN",
        "Infinity",
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        True,
        None,
        [],
        {},
    ],
)
def test_an_invalid_amount_is_refused(amount):
    assert faults(amount=amount) == {
        "amount": "must be a number over 0 and at most 1000000, with at most 2 decimal places in USD"
    }


#: Currencies with their decimal places, from ISO 4217, list one.
PLACES = {"JPY": 0, "KRW": 0, "CLP": 0, "VND": 0, "ISK": 0, "XAF": 0, "UGX": 0, "EUR": 2, "MRU": 2, "BHD": 3, "KWD": 3}
PLACES |= {"TND": 3, "IQD": 3, "OMR": 3, "JOD": 3, "LYD": 3, "CLF": 4, "UYW": 4}


@pytest.mark.parametrize(("currency", "places"), PLACES.items())
def test_an_amount_has_the_decimal_places_of_its_currency(currency, places):
    smallest = f"{Decimal(1).scaleb(-places):f}"
    assert str(order(amount=smallest, currency=currency.lower()).amount) == smallest
    assert str(order(amount=Decimal("5.50000") if places else Decimal("5.0"), currency=currency).amount) == (
        f"5.5{'0' * (places - 1)}" if places else "5"
    )
    finer = Decimal(1).scaleb(-places - 1)
    for amount in (finer, 5 + 5 * finer, f"{finer:f}"):
        (message,) = faults(amount=amount, currency=currency).values()
        assert message.endswith(f"decimal places in {currency}")


def test_every_currency_for_payments_has_its_decimal_places():
    # ISO 4217 lists 155 of them, 16 of which do not have hundredths, besides funds codes.
    assert len(MINOR_UNITS) > 150
    assert set(MINOR_UNITS.values()) == {0, 2, 3, 4}
    assert {code: MINOR_UNITS[code] for code in PLACES} == PLACES


def test_an_amount_of_an_unknown_currency_is_still_checked():
    assert set(faults(currency="XXX", amount="1.1234")) == {"currency"}
    assert faults(currency="XXX", amount="1.12345")["amount"].endswith("with at most 4 decimal places")


@given(st.integers(min_value=1, max_value=100_000_000))
def test_no_cent_is_lost_between_order_and_event(cents):
    amount = Decimal(cents) / 100
    for spelling in (amount, str(amount), f"{amount:.2f}"):
        assert created_event(order(amount=spelling), "x").body["amount"] == f"{amount:.2f}"


@pytest.mark.parametrize("currency", ["USD", "usd", "Usd"])
def test_a_currency_is_reported_in_upper_case(currency):
    assert order(currency=currency).currency == "USD"


@pytest.mark.parametrize(
    "currency", ["", "US", "USDD", "ABC", "DEM", "XXX", "XAU", "u\u017fd", "USD ", 840, None, True]
)
def test_a_currency_that_no_payment_uses_is_refused(currency):
    assert faults(currency=currency) == {"currency": "must be an active ISO 4217 currency code, such as USD"}


@pytest.mark.parametrize(
    "address",
    [
        "!#$%&`*+/=?^`{|}~@example.com",
        *(
            "alice@example.com",
            "a.b+c@sub.example.org",
            "buyer@shop.test",
            "юля@пример.бел",
            "a=b?c@example.com",
            "a=?b@example.com",
        ),
        *("x" * 64 + "@example.com", "é" * 32 + "@example.com", "x" * 63 + "@" + "b" * 63 + "." + "c" * 63),
    ],
)
def test_a_valid_address_is_accepted(address):
    assert order(customer_email=address).customer_email == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "alice",
        "alice@",
        "@example.com",
        "a b@example.com",
        "alice@example",
        "a@example.com, b@example.com",
        "Alice <alice@example.com>",
        "alice@example.com\r\nBcc: all@example.com",
        "alice@example.com\x1b[31m",
        "\u202ealice@example.com",
        "a\ud800@example.com",
        "x" * 300 + "@example.com",
        # RFC 5321, section 4.5.3.1: 64 octets before the @, 255 after it, 254 in all.
        "x" * 65 + "@example.com",
        "é" * 33 + "@example.com",
        "x.y" * 22 + "@example.com",
        "a@" + "b" * 64 + ".example.com",
        "a@" + ".".join(["b" * 63] * 4),
        "x" * 64 + "@" + ".".join(["b" * 63] * 3),
        # RFC 2047: texts that a mail program would decode.
        "=?utf-8?q?=0d=0abcc=3av=40x.example=0d=0a?=@example.com",
        "=?utf-8?q?a=2cb=40x.example?=@example.com",
        "=?UTF-8?B?YUBiLmNvbSxi?=@example.com",
        "a=?iso-8859-1*en?Q?=2C?=b@example.com",
        "=?utf-8?q?=2c@example.com",
        "é=?utf-8?q?a?=@example.com",
    ],
)
def test_an_invalid_address_is_refused(address):
    assert faults(customer_email=address) == {"customer_email": "must be one e-mail address, such as alice@example.com"}


ATEXT = string.ascii_letters + string.digits + "!#$%&'*+/=?^_`{|}~-"
LOCAL_PARTS = [
    "info",
    "Info",
    "postmaster",
    "POSTMASTER",
    "www",
    "abuse",
    "-",
    "--",
    "",
    '"a"',
    "é",
    "e\u0301",
    "\ufb01",
]
LABELS = [
    *(
        "example",
        "Example",
        "com",
        "org",
        "test",
        "local",
        "localhost",
        "invalid",
        "arpa",
        "onion",
        "xn--p1ai",
        "xn--a",
    ),
    *("ab--c", "xn--mnchen-3ya", "münchen", "бел", "1", "1a", "", "a_b", "ß", "[127", "\uff43\uff4f\uff4d"),
]
atoms = st.one_of(
    st.text(ATEXT, min_size=1, max_size=12),
    st.text(string.ascii_lowercase, min_size=1, max_size=90),
    st.sampled_from(LOCAL_PARTS),
)
labels = st.one_of(
    st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=10),
    st.text(string.ascii_lowercase + "-", min_size=55, max_size=66),
    st.sampled_from(LABELS),
)
addresses = st.builds(
    "{}{}{}".format,
    st.lists(atoms, min_size=1, max_size=4).map(".".join),
    st.sampled_from(["@", "@", "@", "@", "@", "@@", "", " @", "@ ", "\uff20", "@a@"]),
    st.lists(labels, min_size=1, max_size=5).map(".".join),
)


def outcome(check: Callable[[Any], str], value: Any) -> str:
    try:
        return check(value)
    except PydanticCustomError:
        return ""


def validated(value: str) -> str:
    try:
        found = validate_email(value, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return ""
    longest = max(len(one.rpartition("@")[0].encode()) for one in (found.original, found.normalized))
    is_text = value.isprintable() and found.normalized.isprintable() and not has_encoded_word(value)
    return str(found.normalized) if is_text and longest <= 64 else ""


@settings(max_examples=700, deadline=None)
@given(st.one_of(addresses, addresses, addresses.map(lambda address: address[:250] + "\n"), st.emails(), st.text()))
def test_an_address_is_normalized_as_by_email_validator(address):
    assert outcome(check_address, address) == validated(address)


@pytest.mark.parametrize("domain", [*SPECIAL_USE_DOMAIN_NAMES, "example.com", "sub.example.org", "a-b.co.uk", "1.com1"])
def test_a_domain_is_valid_for_any_local_part(domain):
    longest = 253 - len(domain)
    for local in ("a", "a.b", "info", "Info", "x" * 300, "x" * longest, "x" * (longest + 1), "a..b", ".a", "a."):
        for address in (
            f"{local}@{domain}",
            f"{local}@sub.{domain}",
            f"{local}@{domain.upper()}",
            f"{local}@{domain}\n",
        ):
            assert outcome(check_address, address) == validated(address)
            assert outcome(check_address, address) == validated(address), "when the domain is known"


@pytest.mark.parametrize("region", ["emea", "eu-west_1", "A" * 32, None])
def test_a_region_is_a_short_word(region):
    assert order(region=region).region == region


@pytest.mark.parametrize("region", ["", "a" * 33, "a.b", "#", "*", "a b", "é", "emea\n", 5, True])
def test_a_region_that_would_break_a_routing_key_is_refused(region):
    assert faults(region=region) == {"region": "must be 1 to 32 letters, digits, - or _"}


def test_all_wrong_fields_are_named_together():
    with pytest.raises(ValidationError) as caught:
        Order.model_validate({"amount": 0, "region": "?", "colour": "red"})
    assert {fault["loc"][0] for fault in caught.value.errors()} == {
        "customer_email",
        "amount",
        "currency",
        "region",
        "colour",
    }


def test_the_event_contains_all_fields_of_the_order():
    order_id = order_id_for(None, order())
    event = created_event(order(region="emea"), order_id)
    assert event.type == "order.created"
    assert event.body == {
        "order_id": order_id,
        "customer_email": "alice@example.com",
        "amount": "149.99",
        "currency": "USD",
        "region": "emea",
    }
    assert event.correlation_id == order_id
    assert event.timestamp is not None


def test_orders_without_a_key_get_different_ids():
    assert order_id_for(None, order()) != order_id_for(None, order())
    assert uuid.UUID(order_id_for(None, order())).version == 4


def test_one_key_gives_one_order_and_one_event():
    first, second = order_id_for("key-1", order()), order_id_for("key-1", order())
    assert first == second
    assert uuid.UUID(first).version == 5
    assert created_event(order(), first).id == created_event(order(), second).id
    assert created_event(order(), first).id != first
    assert order_id_for("key-2", order()) != first


@pytest.mark.parametrize(
    ("changes", "order_id"),
    [
        ({}, "dd58ba69-1702-500c-8dd7-fddaf6c71b9f"),
        (
            {"customer_email": "юля@пример.бел", "amount": 5, "currency": "eur", "region": "emea"},
            "04a60e30-2b7c-5691-bd81-f659c547adc1",
        ),
        ({"customer_email": "o'neil/x@example.com", "amount": "0.5"}, "da90a450-eaa4-5c79-be69-f3d061506ba4"),
        ({"amount": 5, "currency": "JPY"}, "599ffda3-61f8-5880-8152-77e52cef726d"),
    ],
)
def test_an_order_has_the_same_id_as_in_earlier_versions(changes, order_id):
    assert order_id_for("key-1", order(**changes)) == order_id


def test_different_orders_with_the_same_key_have_different_ids():
    assert order_id_for("1", order()) != order_id_for("1", order(customer_email="bob@example.com"))
    assert order_id_for("1", order(amount="5")) == order_id_for("1", order(amount="5.00"))
