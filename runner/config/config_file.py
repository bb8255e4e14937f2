"""config.yaml: the broker and the services, as a person writes them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt, StrictStr

from runner.config.store_settings import InboxSwitch, StoreMapping, StoreSettings
from runner.config.supervision import Runner, Supervision
from runner.config.topology_file import Part, Short
from runner.config.value import BrokerUrls, Unshown

_SERVICE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_FIELD = re.compile(r"\{([^{}]*)\}")


def _check_template(template: str) -> str:
    rest = _FIELD.sub("", template)
    if "{" in rest or "}" in rest or any(not name.isidentifier() for name in _FIELD.findall(template)):
        raise ValueError("not a routing key; allowed: words and fields of the event, such as order.created.{currency}")
    if not event_type(template):
        raise ValueError("begins with a field; allowed: the event's type first, such as order.created.{currency}")
    return template


def event_type(template: str) -> str:
    """The type of the events that a routing key template is for: ``order.created`` of ``order.created.{currency}``."""
    return template.split("{", 1)[0].rstrip(".")


def template_words(template: str) -> tuple[str | None, ...]:
    """The words of the keys that a template makes: each field makes one word that is not known before, None."""
    return tuple(None if "{" in word else word for word in template.split("."))


def _check_http(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+/?", url):
        raise Unshown("not an address; allowed: http://host:port, without a login, which is that of broker.url")
    return url


RoutingKey = Annotated[Short, AfterValidator(_check_template)]


class BrokerSettings(Part):
    """Which broker to use."""

    url: BrokerUrls = Field(
        ("amqp://guest:guest@127.0.0.1:5672/",),
        min_length=1,
        description="The address of the broker, or a list with the addresses of a cluster.",
        examples=["amqp://shop:${RABBITMQ_PASSWORD:-secret}@127.0.0.1:5672/shop"],
    )
    start: Literal["auto", "never"] = Field(
        "auto",
        description="auto: run a private RabbitMQ if no broker answers on this machine; never: wait for the broker.",
        examples=["never"],
    )
    management: Annotated[StrictStr, AfterValidator(_check_http)] | None = Field(
        None,
        description="The address of RabbitMQ's HTTP API, if its port is not the AMQP port plus 10000.",
        examples=["http://127.0.0.1:15673"],
    )


def _check_mapping(value: Any) -> Any:
    if not isinstance(value, dict | BrokerSettings):
        # Most likely the address itself, with its password.
        raise Unshown("not a mapping; allowed: {url: ..., start: ...}")
    return value


class ServiceSettings(Supervision):
    """One service: its plugin, what it consumes and publishes, and how its processes are kept running."""

    plugin: StrictStr | None = Field(
        None, description="The name of the plugin, if it is not the name of the service.", examples=["payment"]
    )
    consumes: list[StrictStr] = Field(
        [], description="The queues that the service consumes.", examples=[["payment.order.created"]]
    )
    publishes: dict[str, list[RoutingKey]] = Field(
        {},
        description=(
            "For each exchange, the routing keys of the events that the service publishes there. A key is the type of"
            " an event; {field} after the type is a field of the event's body."
        ),
        examples=[{"payments.topic": ["payment.success", "payment.failed.{currency}"]}],
    )
    instances: StrictInt = Field(1, ge=0, le=64, description="The number of processes.", examples=[4])
    concurrency: StrictInt = Field(
        1, ge=1, le=64, description="The number of messages that one process handles at the same time.", examples=[2]
    )
    prefetch: StrictInt = Field(
        100,
        ge=1,
        le=65535,
        description="The number of unacked messages that one process may have for each queue.",
        examples=[20],
    )
    inbox: InboxSwitch = Field(
        None, description="Deduplication: handle each message once, even if it is delivered twice."
    )
    store: StoreMapping | None = Field(
        None,
        description="The database of this service, if it is not the database of the project.",
        examples=[{"url": "sqlite:///var/stock.db"}],
    )
    options: dict[str, Any] = Field({}, description="The options of the plugin.", examples=[{"latency": "20ms"}])


class Config(Part):
    """Which broker and database the project uses, and which services run."""

    broker: Annotated[BrokerSettings, BeforeValidator(_check_mapping)] = Field(
        BrokerSettings(), description="Which broker to use."
    )
    runner: Runner = Field(Runner(), description="The supervisor itself.")
    store: StoreMapping = Field(StoreSettings(), description="The database of services that store data.")
    faults: StrictBool = Field(
        False,
        description="Allow fault injection by the command fault; only if broker and database are on this machine.",
        examples=[True],
    )
    services: dict[str, ServiceSettings] = Field(
        {}, description="The services, by name; a name has 1 to 40 lower-case letters, digits, _ and -."
    )


def is_service_name(name: str) -> bool:
    """Whether a name can stand in a log's prefix and on a command line: ``payment``, ``order_api``."""
    return _SERVICE_NAME.fullmatch(name) is not None


def is_misplaced_key(name: str, value: object) -> bool:
    """Return True if a key under ``services`` is a key of a service, such as ``inbox``, and its value is no service.

    A service named like a key, such as ``store``, has a plugin, consumes or publishes.
    """
    is_service = isinstance(value, dict) and not {"plugin", "consumes", "publishes"}.isdisjoint(value)
    return name in ServiceSettings.model_fields and not is_service
