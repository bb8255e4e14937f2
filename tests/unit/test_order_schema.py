"""The published schema of an order and the API agree on each order."""

from __future__ import annotations

import json
import string
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from plugins.order_api.api import describe
from plugins.order_api.order import MINOR_UNITS, Order
from runner.strict_json import decode_json

#: The reader uses exact numbers, because a binary float is no multiple of 0.01.
SCHEMA = json.loads(json.dumps(describe()["components"]["schemas"]["Order"]), parse_float=Decimal)
VALIDATOR = Draft202012Validator(SCHEMA)
GOOD = {"customer_email": "alice@example.com", "amount": "149.99", "currency": "USD"}


def is_taken(order: Any) -> bool:
    try:
        Order.model_validate(order)
    except ValidationError:
        return False
    return True


def both(order: Any) -> tuple[bool, bool]:
    return VALIDATOR.is_valid(order), is_taken(order)


def test_the_schema_is_valid() -> None:
    Draft202012Validator.check_schema(json.loads(json.dumps(SCHEMA, default=float)))
    assert all(both(one) == (True, True) for one in SCHEMA["examples"])


@pytest.mark.parametrize(
    ("raw", "currency", "is_right"),
    [
        ("5e-324", "USD", False), ("1e-2", "USD", True), ("1e-3", "USD", False), ("1e-3", "KWD", True),
        ("0", "USD", False), ("-0.0", "USD", False), ("1e6", "USD", True), ("1000000.01", "USD", False),
        ("1E+2", "JPY", True), ("5.0", "JPY", True), ("5.55", "JPY", False), ("5.5555", "UYW", True),
        ("149.990", "USD", True), ("149.999", "USD", False), ("0.29", "USD", True), ('"0.00"', "USD", False),
        ('"00"', "USD", False), ('"000005"', "USD", True), ('"5."', "USD", False), ('".5"', "USD", False),
        ('"1000000.0000"', "USD", True), ('"1000000.01"', "USD", False), ('"1000001"', "USD", False),
        ('"5.5500000"', "JPY", False), ('"5.000"', "JPY", True), ('"5.1250"', "KWD", True),
        ('"5.1255"', "KWD", False), ('"+5"', "USD", False), ('"5e1"', "USD", False), ('" 5"', "USD", False),
        ('"\\u0665"', "USD", False), ('"00000000000000005"', "USD", False), ("true", "USD", False),
        ("null", "USD", False), ("[5]", "USD", False), ("1", "usd", True), ("1", "uSd", True), ("1", "XXX", False),
        ("1", "XAU", False), ("1", "u\u017fd", False), ("1", "USDD", False), ("1", "", False),
    ],
)  # fmt: skip
def test_an_amount_is_valid_by_the_schema_if_the_api_accepts_it(raw: str, currency: str, is_right: bool) -> None:
    assert both({**GOOD, "amount": decode_json(raw.encode()), "currency": currency}) == (is_right, is_right)


amounts = st.one_of(
    st.integers(-5, 1_000_010),
    st.decimals(0, 1_000_010, places=5).map(lambda one: one.normalize()),
    st.builds(lambda number, places: Decimal(number).scaleb(-places), st.integers(0, 10**7), st.integers(0, 5)),
    st.from_regex(r"0{0,9}[0-9]{1,7}(\.[0-9]{1,5}0{0,9})?", fullmatch=True),
    st.text("0123456789.", max_size=18),
    st.booleans(),
    st.none(),
)
currencies = st.one_of(
    st.sampled_from(sorted(MINOR_UNITS)),
    st.sampled_from(["JPY", "KWD", "CLF", "usd", "Eur", "XXX", "XAU", "DEM", "us", "dollar"]),
    st.text(max_size=4),
)


@given(amounts, currencies, st.none() | st.text(max_size=34) | st.from_regex(r"[\w-]{1,33}", fullmatch=True))
def test_amount_currency_and_region_are_valid_by_the_schema_if_the_api_accepts_them(
    amount: Any, currency: str, region: str | None
) -> None:
    # In a JSON Schema $ is the end of a text. In Python it may also precede a line end.
    if not any(isinstance(one, str) and one.endswith("\n") for one in (amount, currency, region)):
        by_schema, by_api = both({**GOOD, "amount": amount, "currency": currency, "region": region})
        assert by_schema == by_api


@pytest.mark.parametrize("drop", sorted(GOOD))
def test_both_require_the_same_fields(drop: str) -> None:
    assert both({name: value for name, value in GOOD.items() if name != drop}) == (False, False)
    assert both({**GOOD, "colour": "red"}) == (False, False)


LETTERS = string.ascii_letters + string.digits
local_parts = st.lists(st.text(LETTERS + "!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=24), min_size=1, max_size=3)
labels = st.text(LETTERS + "-", min_size=1, max_size=12) | st.sampled_from(
    ["a" * 63, "a" * 64, "xn--a", "ab--c", "local"]
)
tops = st.text(string.ascii_letters, min_size=2, max_size=6) | st.sampled_from(
    ["LOCAL", "onion", "test", "c0m", "arpa"]
)


@given(local_parts.map(".".join), st.lists(labels, min_size=1, max_size=4).map(".".join), tops)
def test_an_address_of_the_schema_is_accepted_by_the_api(local: str, domain: str, top: str) -> None:
    by_schema, by_api = both({**GOOD, "customer_email": f"{local}@{domain}.{top}"})
    assert by_schema <= by_api


@pytest.mark.parametrize(
    ("address", "is_right"),
    [
        # From the test set of isemail (Dominic Sayers), if a shop can send an e-mail there.
        ("test@iana.org", True), ("test@nominet.org.uk", True), ("test@about.museum", True), ("a@iana.org", True),
        ("test@e.com", True), ("test.test@iana.org", True), ("!#$%&`*+/=?^`{|}~@iana.org", True),
        ("123@iana.org", True), ("test@123.com", True),
        ("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl@iana.org", True),
        ("test@mason-dixon.com", True), ("test@c--n.com", True), ("a@b.co", True), ("test@iana.co-uk", True),
        ("", False), ("test", False), ("@", False), ("test@", False), ("@io", False), ("@iana.org", False),
        (".test@iana.org", False), ("test.@iana.org", False), ("test..iana.org", False), ("test_exa-mple.com", False),
        ("test\\@test@iana.org", False), ("test@a[255.255.255.255]", False), ("test@[255.255.255.255]", False),
        ("test@-iana.org", False), ("test@iana-.com", False), ("test@.iana.org", False), ("test@iana.org.", False),
        ("test@iana..com", False), ('"test"@iana.org', False), ('""@iana.org', False), ('"\\a"@iana.org', False),
        ("(comment)test@iana.org", False), ("test@(comment)iana.org", False), (" test@iana.org", False),
        ("test@iana.org ", False), ("test@iana.org\n", False), ("te st@iana.org", False),
        ("test@iana/icann.org", False), ("test@org", False), ("test@localhost", False), ("test@1.2.3.4", False),
        ("a@b@iana.org", False),
        ("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklm@iana.org", False),
        ("a@" + "a" * 64 + ".org", False), ("a@" + ".".join(["a" * 60] * 5) + ".org", False),
        ("\x7f@iana.org", False), ("test@iana.org\r\n", False), ("test\x00@iana.org", False),
        ("a=?b?q?@iana.org", False), ("x@y.local", False),
    ],
)  # fmt: skip
def test_an_address_is_accepted_if_it_can_receive_e_mail(address: str, is_right: bool) -> None:
    by_schema, by_api = both({**GOOD, "customer_email": address})
    assert by_api == is_right
    # Some addresses that the API accepts need a closer check than a pattern. The schema promises none that it refuses.
    assert by_schema <= by_api or address.endswith("\n")
