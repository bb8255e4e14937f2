"""The findings of lint in the contracts of plugins: the publishers, the handlers, and the events between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, RootModel

from runner.config.config_file import Config
from runner.config.topology_file import Topology
from runner.contract import Contract, Terms
from runner.errors import PluginError
from runner.topology.lint_rules import lint


class Order(BaseModel):
    order_id: str
    amount: str
    note: str | None = None


class Shipment(BaseModel):
    order_id: str
    weight: int = Field(alias="grams")


class Parcel(BaseModel):
    """A model that is read by other names than it is written."""

    id: str = Field(validation_alias="order_id")
    price: str = Field(validation_alias=AliasChoices("amount", "total"))
    first: str = Field(validation_alias=AliasPath("note", 0))


class Bill(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    total: str = Field(alias="sum")


class Sent(BaseModel):
    number: str = Field(serialization_alias="order_id")
    total: str = Field(serialization_alias="amount")


class AnyOrder(BaseModel):
    model_config = ConfigDict(extra="allow")

    order_id: str


TOPOLOGY: dict[str, Any] = {
    "exchanges": {"orders": {"type": "topic"}},
    "queues": {"work": {"bind": {"orders": ["order.#"]}}, "copy": {"bind": {"orders": ["order.#"]}}},
}
SERVICES: dict[str, Any] = {
    "shop": {"publishes": {"orders": ["order.created"]}},
    "worker": {"consumes": ["work"]},
    "history": {"consumes": ["copy"]},
}


def codes(services: dict[str, Any], **contracts: Contract) -> list[tuple[str, str]]:
    config = Config.model_validate({"services": services})
    terms = {name: Terms.of(contract, name) for name, contract in contracts.items()}
    # The form in which the process that imports plugins reports them.
    terms = {name: Terms.from_json(one.as_json()) for name, one in terms.items()}
    return [(one.code, one.name) for one in lint(Topology.model_validate(TOPOLOGY), config.services, terms)]


def contract(handles: Mapping[str, Any] | None = None, publishes: Mapping[str, Any] | None = None) -> Contract:
    return Contract(handles=handles, publishes=publishes or {})


def test_matching_contracts_have_no_findings() -> None:
    shop, worker = contract(publishes={"order.created": Order}), contract({"order.created": Order})
    assert codes(SERVICES, shop=shop, worker=worker, history=Contract()) == []
    assert codes(SERVICES) == []


@pytest.mark.parametrize(
    ("sent", "needed", "is_found"),
    [
        (Order, Shipment, True),
        (Order, Order, False),
        (Order, AnyOrder, False),
        (AnyOrder, Shipment, False),
        (None, Shipment, False),
        (Shipment, Order, True),
        (Order, None, False),
        (Order, Parcel, False),
        (Shipment, Parcel, True),
        (Order, Bill, False),
        (Sent, Order, False),
        (Order, RootModel[dict[str, str]], False),
        (RootModel[dict[str, str]], Order, False),
    ],
)
def test_a_field_that_a_handler_needs_and_no_publisher_sends_is_found(sent: Any, needed: Any, is_found: bool) -> None:
    shop, worker = contract(publishes={"order.created": sent}), contract({"order.created": needed})
    expected = [("missing-field", "order.created")] if is_found else []
    assert codes(SERVICES, shop=shop, worker=worker) == expected


def test_an_event_that_reaches_a_service_without_a_handler_for_it_is_found() -> None:
    shop = contract(publishes={"order.created": None})
    assert codes(SERVICES, shop=shop, worker=contract({"order.shipped": None})) == [("unhandled-event", "work")]
    assert codes(SERVICES, shop=shop, worker=contract({})) == [("unhandled-event", "work")]


def test_an_event_that_never_reaches_its_handler_is_found() -> None:
    services = SERVICES | {"mail": {"consumes": ["letters"]}}
    topology = TOPOLOGY["queues"] | {"letters": {"bind": {"orders": ["letter.#"]}}}
    config = Config.model_validate({"services": services})
    terms = {"mail": Terms.of(contract({"order.created": None, "letter.sent": None}), "mail")}
    found = lint(Topology.model_validate(TOPOLOGY | {"queues": topology}), config.services, terms)
    assert ("missed-event", "mail") in [(one.code, one.name) for one in found]
    # No plugin publishes the other event, so none is missed.
    (one,) = [one for one in found if one.code == "missed-event"]
    assert one.reason == "mail handles 'order.created', but no binding routes it from shop to 'letters'"


def test_services_with_one_plugin_may_share_a_queue_and_others_may_not() -> None:
    both = SERVICES | {"second": {"consumes": ["work"], "plugin": "worker"}}
    assert codes(both) == []
    assert codes(SERVICES | {"second": {"consumes": ["work"]}}) == [("shared-queue", "work")]


@pytest.mark.parametrize(
    ("first", "second", "is_found"),
    [
        (("127.0.0.1", 80), ("127.0.0.1", 80), True),
        (("127.0.0.1", 80), ("0.0.0.0", 80), True),
        (("::", 80), ("127.0.0.1", 80), True),
        (("localhost", 80), ("127.0.0.1", 80), True),
        (("LocalHost", 80), ("localhost", 80), True),
        (("::1", 80), ("0:0:0:0:0:0:0:1", 80), True),
        (("", 80), ("shop.example", 80), True),
        (("0:0::0", 80), ("localhost", 80), True),
        (("shop.example", 80), ("mail.example", 80), False),
        (("localhost", 80), ("127.0.0.2", 80), False),
        (("127.0.0.1", 80), ("127.0.0.2", 80), False),
        (("127.0.0.1", 80), ("127.0.0.1", 81), False),
        (("127.0.0.1", 0), ("127.0.0.1", 0), False),
    ],
)
def test_two_services_that_listen_on_one_address_are_found(
    first: tuple[str, int], second: tuple[str, int], is_found: bool
) -> None:
    result = codes(SERVICES, shop=Contract(listens=[first]), worker=Contract(listens=[second]))
    assert [name for code, name in result if code == "same-address"] == (["worker"] if is_found else [])


def test_a_service_that_receives_its_own_events_is_found() -> None:
    services = SERVICES | {"worker": {"consumes": ["work"], "publishes": {"orders": ["order.paid", "order.lost"]}}}
    assert codes(services) == [("own-events", "work")]


@pytest.mark.parametrize(
    "returned",
    [
        None,
        {"publishes": ["order.created"]},
        Contract(publishes=["order.created"]),  # type: ignore[arg-type]
        Contract(publishes={"order.created": dict}),  # type: ignore[dict-item]
        Contract(handles={3: None}),  # type: ignore[dict-item]
        Contract(handles="order.created"),  # type: ignore[arg-type]
        Contract(listens=["127.0.0.1:80"]),  # type: ignore[list-item]
        Contract(listens=[("127.0.0.1", "http")]),  # type: ignore[list-item]
        Contract(records="events"),
        Contract(records=["event"]),
        Contract(records=5),  # type: ignore[arg-type]
        Contract(statuses={"order.paid": "paid"}),
        Contract(publishes={"order.paid": None}, statuses={"order.paid": "failed"}),
        Contract(publishes={"order.paid": None}, statuses={"order.paid": ""}),
        Contract(publishes={"order.paid": None}, statuses={"order.paid": 1}),  # type: ignore[dict-item]
        Contract(statuses=["order.paid"]),  # type: ignore[arg-type]
    ],
)
def test_an_invalid_contract_is_a_plugin_error(returned: object) -> None:
    with pytest.raises(PluginError, match=r"^plugin 'shop': contract: .*; allowed: "):
        Terms.of(returned, "shop")
