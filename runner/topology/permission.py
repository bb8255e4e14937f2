"""The least rights that each service needs on the broker, were each to log in as a user of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runner.config.config_file import ServiceSettings
from runner.topology.model import Objects

#: What RabbitMQ calls the default exchange when it checks rights (RabbitMQ: "Access Control").
DEFAULT_EXCHANGE = "amq.default"


@dataclass(frozen=True)
class Permission:
    """A user's three regular expressions: what it may declare, publish to, and consume."""

    user: str
    configure: str
    write: str
    read: str


def permissions_of(objects: Objects, services: Mapping[str, ServiceSettings]) -> list[Permission]:
    """One for each service. The runner itself declares: it needs all three for everything, and a tag for policies."""
    return [_permission(name, service, objects) for name, service in services.items()]


def _permission(name: str, service: ServiceSettings, objects: Objects) -> Permission:
    writes = set(service.publishes)
    if any(queue in objects.ladders for queue in service.consumes):
        # Failed messages go straight to a wait queue or a dead-letter queue, through the default exchange.
        writes.add(DEFAULT_EXCHANGE)
    return Permission(name, "^$", _exactly(writes), _exactly(service.consumes))


def _exactly(names: Iterable[str]) -> str:
    escaped = "|".join(re.escape(name) for name in sorted(names))
    return f"^({escaped})$" if escaped else "^$"
