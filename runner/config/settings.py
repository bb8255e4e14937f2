"""config.yaml: the broker and the services, as a person writes them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt, StrictStr

from runner.config.storage import InboxSwitch, Store, StoreMapping
from runner.config.supervision import Runner, Supervision
from runner.config.topology import Part, Short
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


class Broker(Part):
    """Which broker to use."""

    url: BrokerUrls = Field(
        ("amqp://guest:guest@127.0.0.1:5672/",), min_length=1, description="Its address, or those of a cluster."
    )
    start: Literal["auto", "never"] = Field(
        "auto", description="auto: when none answers on this machine, run a private one; never: wait for it."
    )
    management: Annotated[StrictStr, AfterValidator(_check_http)] | None = Field(
        None, description="RabbitMQ's HTTP API, where it is not on the AMQP port plus 10000: http://host:15672."
    )


def _check_mapping(value: Any) -> Any:
    if not isinstance(value, dict | Broker):
        # Most likely the address itself, with its password.
        raise Unshown("not a mapping; allowed: {url: ..., start: ...}")
    return value


class Service(Supervision):
    """One service: a plugin, what it consumes and publishes, how many run, and how they are kept running."""

    plugin: StrictStr | None = Field(None, description="The plugin; the service's own name where not given.")
    consumes: list[StrictStr] = Field([], description="The queues it consumes.")
    publishes: dict[str, list[RoutingKey]] = Field(
        {}, description="Exchange: the events published there, as routing keys; {field} is a field of the event."
    )
    instances: StrictInt = Field(1, ge=0, le=64, description="How many processes run it.")
    concurrency: StrictInt = Field(1, ge=1, le=64, description="How many messages one process handles at once.")
    prefetch: StrictInt = Field(
        100, ge=1, le=65535, description="How many unacknowledged messages one process may hold for each queue."
    )
    inbox: InboxSwitch = Field(
        None, description="Each message once, whatever is delivered twice; {keep: 7d} says for how long it is known."
    )
    options: dict[str, Any] = Field({}, description="The plugin's own options.")


class Config(Part):
    """The whole of config.yaml."""

    broker: Annotated[Broker, BeforeValidator(_check_mapping)] = Field(Broker(), description="Which broker to use.")
    runner: Runner = Field(Runner(), description="The supervisor itself.")
    store: StoreMapping = Field(Store(), description="The database of services that keep something.")
    trace: StrictStr | None = Field(
        None, description="The queue that gets a note of each try of each message, such as the one that audit reads."
    )
    faults: StrictBool = Field(
        False, description="Let the command fault break things on purpose; only where broker and database are local."
    )
    services: dict[str, Service] = Field({}, description="The services, by name.")


def is_service_name(name: str) -> bool:
    """Whether a name can stand in a log's prefix and on a command line: ``payment``, ``order_api``."""
    return _SERVICE_NAME.fullmatch(name) is not None
