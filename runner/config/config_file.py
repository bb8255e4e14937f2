"""The models of config.yaml: the broker, the database and the services."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt, StrictStr, WithJsonSchema

from runner.address import Address, authority
from runner.config.database_address import DEFAULT_URL
from runner.config.supervision import AtLeastASecond, Runner, Supervision
from runner.config.topology_file import Part, Short
from runner.config.value import BrokerUrls, Unshown

_SERVICE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_FIELD = re.compile(r"\{([^{}]*)\}")
_STORE_URLS = "sqlite:///PATH, or postgresql://user:password@host:port/database (write any other @ as %40)"
#: The allowed query parameters in a database server's address, none of which is a secret.
_SHOWN = frozenset({"application_name", "connect_timeout", "host", "sslcert", "sslkey", "sslmode", "sslrootcert"})


def _check_template(template: str) -> str:
    rest = _FIELD.sub("", template)
    if "{" in rest or "}" in rest or any(not name.isidentifier() for name in _FIELD.findall(template)):
        raise ValueError("not a routing key; allowed: words and event fields, such as order.created.{currency}")
    if not event_type(template):
        raise ValueError("starts with a field; allowed: the event type first, such as order.created.{currency}")
    return template


def event_type(template: str) -> str:
    """Return the event type of a routing key template, such as ``order.created`` for ``order.created.{currency}``."""
    return template.split("{", 1)[0].rstrip(".")


def template_words(template: str) -> tuple[str | None, ...]:
    """Return the words of a routing key template, with None for each word that contains a field."""
    return tuple(None if "{" in word else word for word in template.split("."))


def _check_http(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+/?", url):
        raise Unshown("not an HTTP address; allowed: http://host:port, without a login (broker.url contains the login)")
    return url


def _mapping_of(model: type[Part], allowed: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not isinstance(value, dict | model):
            # The value is probably the address itself, which may contain a password.
            raise Unshown(f"not a mapping; allowed: {allowed}")
        return value

    return BeforeValidator(check)


RoutingKey = Annotated[Short, AfterValidator(_check_template)]


class BrokerSettings(Part):
    """The RabbitMQ broker that the services use."""

    url: BrokerUrls = Field(
        ("amqp://guest:guest@127.0.0.1:5672/",),
        min_length=1,
        description="The address of the broker, or a list of the addresses of a cluster's nodes.",
        examples=["amqp://shop:${RABBITMQ_PASSWORD:-secret}@127.0.0.1:5672/shop"],
    )
    autostart: StrictBool = Field(
        True,
        description="Start a private RabbitMQ if no broker answers on this machine. If false, wait for the broker.",
        examples=[False],
    )
    management: Annotated[StrictStr, AfterValidator(_check_http)] | None = Field(
        None,
        description="The address of RabbitMQ's HTTP API, if the API's port is not the AMQP port plus 10000.",
        examples=["http://127.0.0.1:15673"],
    )


def _check_store_url(url: str) -> str:
    # Errors never show the address, which may contain a password.
    if re.fullmatch(r"sqlite:///[^?#]+", url) and not url.endswith(":memory:"):
        return url
    try:
        parts = urlsplit(url)
        is_server = parts.scheme in ("postgresql", "postgres") and bool(parts.path.strip("/")) and parts.port != 0
    except ValueError:
        is_server = False
    # Printed addresses hide only the text before a single @, so a password elsewhere would be visible.
    is_server = is_server and url.count("@") <= 1 and not re.search(r"[#,\s]", url)
    is_server = is_server and all(name in _SHOWN for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    if not is_server:
        raise Unshown(f"not a database address; allowed: {_STORE_URLS}")
    return url.replace("postgres://", "postgresql://", 1)


class StoreSettings(Part):
    """The database of services that store data. A SQLite database file is created on first use."""

    url: Annotated[StrictStr, AfterValidator(_check_store_url)] = Field(
        DEFAULT_URL,
        description="The database address, sqlite:///PATH or postgresql://user:password@host:port/database.",
        examples=["sqlite:///var/shop.db"],
    )

    @property
    def remote_hosts(self) -> list[str]:
        """The database server's hosts on other machines (PostgreSQL: "Connection Strings")."""
        if not self.url.startswith("postgresql"):
            return []
        parts = urlsplit(self.url)
        named = parse_qs(parts.query).get("host", []) or [unquote(parts.hostname or "")]
        # libpq uses PGHOST if the address contains no host, and always uses PGHOSTADDR.
        given = [*(host or os.environ.get("PGHOST", "") for host in named), os.environ.get("PGHOSTADDR", "")]
        hosts = (host for one in given for host in one.split(","))
        # An empty host, a path or an abstract name denotes a local socket.
        servers = (host for host in hosts if host and not host.startswith(("/", "@")))
        return [host for host in servers if Address.of(f"amqp://{authority(host, 1)}").loopback is None]


StoreMapping = Annotated[StoreSettings, _mapping_of(StoreSettings, "{url: ...}")]


class InboxSettings(Part):
    """Deduplication, which stores the ids of handled messages so that a second delivery has no effect."""

    retention: AtLeastASecond = Field(
        "7d",
        validate_default=True,
        description="The time for which the ids of handled messages are stored; 1s or more.",
        examples=["30d"],
    )


def _switch(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, dict | InboxSettings):
        raise ValueError("not true or false; allowed: true, false, or {retention: 7d}")
    return value


#: ``true``, ``false``, or the inbox settings.
InboxSwitch = Annotated[
    InboxSettings | None,
    BeforeValidator(_switch),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "boolean"},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"retention": {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$"}},
                },
            ]
        }
    ),
]


class ServiceSettings(Supervision):
    """A service, with its plugin, queues, events and supervision settings."""

    plugin: StrictStr | None = Field(
        None, description="The name of the plugin, if it differs from the service name.", examples=["payment"]
    )
    consumes: list[StrictStr] = Field(
        [], description="The queues that the service consumes.", examples=[["payment.order.created"]]
    )
    publishes: dict[str, list[RoutingKey]] = Field(
        {},
        description=(
            "For each exchange, the routing keys of the events that the service publishes. A routing key is the event"
            " type, optionally followed by fields of the event body, such as {currency}."
        ),
        examples=[{"payments.topic": ["payment.success", "payment.failed.{currency}"]}],
    )
    instances: StrictInt = Field(1, ge=0, le=64, description="The number of instances (processes).", examples=[4])
    concurrency: StrictInt = Field(
        1, ge=1, le=64, description="The number of messages that one instance handles at the same time.", examples=[2]
    )
    prefetch: StrictInt = Field(
        100,
        ge=1,
        le=65535,
        description="The maximum number of unacked messages per instance and queue.",
        examples=[20],
    )
    inbox: InboxSwitch = Field(
        None, description="Deduplication: handle each message once, even if it is delivered twice."
    )
    store: StoreMapping | None = Field(
        None,
        description="The database of this service, if it differs from the project's database.",
        examples=[{"url": "sqlite:///var/stock.db"}],
    )
    options: dict[str, Any] = Field({}, description="The options of the plugin.", examples=[{"latency": "20ms"}])


class Config(Part):
    """The broker, the supervisor, the database and the services of a project."""

    broker: Annotated[BrokerSettings, _mapping_of(BrokerSettings, "{url: ..., autostart: ...}")] = Field(
        BrokerSettings(), description="The RabbitMQ broker."
    )
    runner: Runner = Field(Runner(), description="Settings of the supervisor itself.")
    store: StoreMapping = Field(StoreSettings(), description="The database of services that store data.")
    fault_injection: StrictBool = Field(
        False,
        description="Allow the `fault` command. The broker and the database must be on this machine.",
        examples=[True],
    )
    services: dict[str, ServiceSettings] = Field(
        {},
        description="The services, by name. A name has 1 to 40 characters of a-z, 0-9, _ and -, and starts with a-z.",
    )


def is_service_name(name: str) -> bool:
    """Return True if a service can have this name. Names appear in log prefixes and on command lines."""
    return _SERVICE_NAME.fullmatch(name) is not None


def is_misplaced_key(name: str, value: object) -> bool:
    """Return True if an entry under ``services`` is a misplaced key of a service, such as ``inbox``.

    An entry with ``plugin``, ``consumes`` or ``publishes`` is a service, even if its name is also the name of a key.
    """
    is_service = isinstance(value, dict) and not {"plugin", "consumes", "publishes"}.isdisjoint(value)
    return name in ServiceSettings.model_fields and not is_service
