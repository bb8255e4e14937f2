"""RabbitMQ's definitions format for import and export, and its user permissions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from runner.config.argument import QUEUE_TYPE
from runner.config.config_file import ServiceSettings
from runner.config.version import CLASSIC
from runner.errors import RunnerError
from runner.topology.export import ExportEntry, entries
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue

#: The word that RabbitMQ's API and exports use for a missing header value. RabbitMQ's import reads this word as text.
UNDEFINED = "undefined"
#: RabbitMQ's name for the default exchange in permissions (RabbitMQ: "Access Control").
DEFAULT_EXCHANGE = "amq.default"
_RESERVED = "amq."
_SECTIONS = ("exchanges", "queues", "bindings", "policies")
_OTHERS = ("users", "permissions", "topic_permissions", "parameters", "global_parameters")

T = TypeVar("T", Exchange, Queue, Policy)


def to_definitions(objects: Objects, vhost: str) -> dict[str, Any]:
    """Return the objects in RabbitMQ's import format (RabbitMQ: "Definitions Export and Import")."""
    return {
        "vhosts": [{"name": vhost}],
        "exchanges": [
            {
                "name": one.name,
                "vhost": vhost,
                "type": one.type,
                "durable": one.durable,
                "auto_delete": one.auto_delete,
                "internal": one.internal,
                "arguments": dict(one.arguments),
            }
            for one in objects.exchanges
        ],
        "queues": [
            {
                "name": one.name,
                "vhost": vhost,
                "durable": one.durable,
                "auto_delete": one.auto_delete,
                "arguments": dict(one.arguments),
            }
            for one in objects.queues
        ],
        "bindings": [
            {
                "source": one.source,
                "vhost": vhost,
                "destination": one.destination,
                "destination_type": one.destination_type,
                "routing_key": one.routing_key,
                "arguments": {name: UNDEFINED if value is None else value for name, value in one.arguments.items()},
            }
            for one in objects.bindings
        ],
        "policies": [
            {
                "vhost": vhost,
                "name": one.name,
                "pattern": one.pattern,
                "apply-to": one.apply_to,
                "priority": one.priority,
                "definition": dict(one.definition),
            }
            for one in objects.policies
        ],
    }


def from_definitions(data: Any, vhost: str | None = None) -> tuple[Objects, list[str]]:
    """Return the objects of one vhost, and a note about each part that topology.yaml cannot contain.

    ``vhost`` may be None if the file contains only one vhost. Raises RunnerError if ``data`` is not a RabbitMQ export.
    Missing fields get the same defaults as in RabbitMQ's own import (module ``rabbit_definitions``, verified with 3.10,
    4.0 and 4.3).
    """
    if not isinstance(data, dict) or not any(data.get(key) for key in _SECTIONS):
        raise RunnerError("not a RabbitMQ export; allowed: a JSON file from rabbitmqctl export_definitions")
    sections = {key: entries(data, key) for key in _SECTIONS}
    chosen = _vhost(sections, vhost)
    mine = {key: [one for one in found if one.text("vhost", chosen) == chosen] for key, found in sections.items()}
    notes = [
        f"{len(found)} {key} are not imported: topology.yaml cannot contain {key}"
        for key in _OTHERS
        if (found := entries(data, key))
    ]
    elsewhere = sum(len(sections[key]) - len(mine[key]) for key in ("exchanges", "queues"))
    if elsewhere:
        notes.append(f"{elsewhere} exchanges and queues of other vhosts are not imported; choose a vhost with --vhost")
    default_type = _default_queue_type(data, chosen)
    exchanges = [_exchange(one) for one in mine["exchanges"] if _is_own(one.text("name"))]
    queues = [_queue(one, default_type, notes) for one in mine["queues"] if _is_own(one.text("name"))]
    bindings = [_binding(one) for one in mine["bindings"] if one.text("source")]
    policies = [_policy(one) for one in mine["policies"]]
    # RabbitMQ's import ignores exchanges and queues that already exist, but overwrites policies. The order is uncertain
    # for queues, because RabbitMQ imports queues in parallel.
    objects = Objects(
        tuple(_once(exchanges, "exchange", "first", notes)),
        tuple(_once(queues, "queue", "first", notes)),
        tuple({one.key: one for one in bindings}.values()),
        tuple(_once(policies, "policy", "last", notes)),
    )
    return objects, notes


def _once(things: Iterable[T], kind: str, which: str, notes: list[str]) -> Iterable[T]:
    """Return the first or the last entry for each name."""
    counts, found = Counter[str](), dict[str, T]()
    for one in things:
        counts[one.name] += 1
        found[one.name] = one if which == "last" else found.get(one.name, one)
    for name, count in counts.items():
        if count > 1:
            notes.append(
                f"{kind} {name!r} occurs {count} times; the {which} entry is used, because RabbitMQ's import usually"
                " uses that entry"
            )
    return found.values()


def _vhost(sections: dict[str, list[ExportEntry]], vhost: str | None) -> str:
    there = {one.text("vhost") for key in ("queues", "exchanges") for one in sections[key] if "vhost" in one.fields}
    if vhost is not None:
        if there and vhost not in there:
            raise RunnerError(f"unknown vhost {vhost!r}; allowed: {', '.join(sorted(there))}")
        return vhost
    if len(there) > 1:
        raise RunnerError(f"several vhosts, {', '.join(sorted(there))}; choose one with --vhost")
    return next(iter(there), "/")


def _default_queue_type(data: dict[str, Any], vhost: str) -> str:
    """Return the default queue type of a vhost. RabbitMQ 4 and later export the type in the vhost's metadata."""
    for one in entries(data, "vhosts"):
        if one.text("name") == vhost:
            metadata = ExportEntry(f"{one.place}.metadata", one.table("metadata", {}))
            said = metadata.fields.get("default_queue_type")
            # RabbitMQ exports ``undefined`` for a missing value.
            return CLASSIC if said in (None, UNDEFINED) else metadata.text("default_queue_type")
    return CLASSIC


def _is_own(name: str) -> bool:
    return bool(name) and not name.startswith(_RESERVED)


def _exchange(one: ExportEntry) -> Exchange:
    flags = (one.flag("durable", True), one.flag("internal", False))
    arguments = one.table("arguments", {})
    return Exchange(one.text("name"), one.text("type"), *flags, arguments, one.flag("auto_delete", False))


def _queue(one: ExportEntry, default_type: str, notes: list[str]) -> Queue:
    name, arguments = one.text("name"), one.table("arguments", {})
    is_durable, is_deleted = one.flag("durable", True), one.flag("auto_delete", False)
    said = one.text("type", "")
    if arguments.get(QUEUE_TYPE, UNDEFINED) == UNDEFINED:
        # RabbitMQ's import ignores the ``type`` field.
        kind = default_type if is_durable and not is_deleted else CLASSIC
        if kind != CLASSIC:
            notes.append(
                f"queue {name!r} gets the type {kind}, the vhost's default_queue_type, as in RabbitMQ 4.0 and later"
            )
        elif said not in ("", CLASSIC):
            notes.append(f"queue {name!r} gets the type {kind}, not {said}: RabbitMQ's import reads only the arguments")
        arguments = {**arguments, QUEUE_TYPE: kind}
    return Queue(name, is_durable, arguments, is_deleted)


def _binding(one: ExportEntry) -> Binding:
    ends = (one.text("source"), one.text("destination"), one.text("destination_type", "queue"))
    arguments = {key: None if value == UNDEFINED else value for key, value in one.table("arguments", {}).items()}
    return Binding(*ends, one.text("routing_key", ""), arguments)


def _policy(one: ExportEntry) -> Policy:
    words = (one.text("name"), one.text("pattern"), one.text("apply-to", "all"))
    return Policy(*words, one.table("definition"), one.number("priority", 0))


@dataclass(frozen=True)
class Permission:
    """A user's permissions, as regular expressions for the objects to declare, to publish to and to consume."""

    user: str
    configure: str
    write: str
    read: str


def permissions_of(objects: Objects, services: Mapping[str, ServiceSettings]) -> list[Permission]:
    """Return the permissions of each service.

    The supervisor's own user, which declares all objects, needs all three permissions, and a tag for policies.
    """
    return [_permission(name, service, objects) for name, service in services.items()]


def _permission(name: str, service: ServiceSettings, objects: Objects) -> Permission:
    writes = set(service.publishes)
    if any(queue in objects.retry_delays for queue in service.consumes):
        # Failed messages go directly to a retry queue or a dead-letter queue, through the default exchange.
        writes.add(DEFAULT_EXCHANGE)
    return Permission(name, "^$", _exactly(writes), _exactly(service.consumes))


def _exactly(names: Iterable[str]) -> str:
    escaped = "|".join(re.escape(name) for name in sorted(names))
    return f"^({escaped})$" if escaped else "^$"
