"""RabbitMQ's own form of a topology, ``definitions.json``: written for its import, and read from its export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.config.argument import QUEUE_TYPE
from runner.errors import RunnerError
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue

#: RabbitMQ's word, in its API and its exports, for a header's value of nothing. Its import takes it for text.
UNDEFINED = "undefined"
_RESERVED = "amq."
_SECTIONS = ("exchanges", "queues", "bindings", "policies")


def to_definitions(objects: Objects, vhost: str) -> dict[str, Any]:
    """The objects as RabbitMQ's import takes them (RabbitMQ: "Definitions Export and Import")."""
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
    """The objects of one vhost, and a note on each thing that a topology.yaml does not hold.

    ``vhost`` may be left out where there is only one. Raises RunnerError where this is no such export.
    """
    sections = [data.get(key) or [] for key in _SECTIONS] if isinstance(data, dict) else []
    if not any(sections) or not all(
        isinstance(one, list) and all(isinstance(item, dict) for item in one) for one in sections
    ):
        raise RunnerError("not an export of RabbitMQ; allowed: the JSON of rabbitmqctl export_definitions")
    chosen = _vhost(data, vhost)

    def mine(key: str) -> list[dict[str, Any]]:
        return [one for one in data.get(key) or [] if one.get("vhost", chosen) == chosen]

    try:
        objects = Objects(
            tuple(_exchange(one) for one in mine("exchanges") if _is_own(one["name"])),
            tuple(_queue(one) for one in mine("queues") if _is_own(one["name"])),
            tuple(_binding(one) for one in mine("bindings") if one["source"]),
            tuple(_policy(one) for one in mine("policies")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RunnerError(f"not an export of RabbitMQ: {type(error).__name__} {error}; export it again") from None
    others = ("users", "permissions", "topic_permissions", "parameters", "global_parameters")
    notes = [f"not taken, {len(data[key])} {key}: topology.yaml has none" for key in others if data.get(key)]
    elsewhere = sum(len(data.get(key) or []) - len(mine(key)) for key in ("exchanges", "queues"))
    if elsewhere:
        notes.append(f"not taken, {elsewhere} exchanges and queues of other vhosts; name one with --vhost")
    return objects, notes


def _vhost(data: Mapping[str, Any], vhost: str | None) -> str:
    there = {str(one["vhost"]) for key in ("queues", "exchanges") for one in data.get(key) or [] if "vhost" in one}
    if vhost is not None:
        if there and vhost not in there:
            raise RunnerError(f"vhost {vhost!r} is not there; allowed: {', '.join(sorted(there))}")
        return vhost
    if len(there) > 1:
        raise RunnerError(f"several vhosts, {', '.join(sorted(there))}; name one with --vhost")
    return next(iter(there), "/")


def _is_own(name: str) -> bool:
    return bool(name) and not name.startswith(_RESERVED)


def _exchange(one: Mapping[str, Any]) -> Exchange:
    arguments = one.get("arguments") or {}
    flags = (one.get("durable", True), one.get("internal", False))
    return Exchange(one["name"], one["type"], *flags, dict(arguments), one.get("auto_delete", False))


def _queue(one: Mapping[str, Any]) -> Queue:
    arguments = {QUEUE_TYPE: one.get("type", "classic"), **(one.get("arguments") or {})}
    return Queue(one["name"], one.get("durable", True), arguments, one.get("auto_delete", False))


def _binding(one: Mapping[str, Any]) -> Binding:
    ends = (one["source"], one["destination"], one.get("destination_type", "queue"))
    arguments = {name: None if value == UNDEFINED else value for name, value in (one.get("arguments") or {}).items()}
    return Binding(*ends, one.get("routing_key", ""), arguments)


def _policy(one: Mapping[str, Any]) -> Policy:
    definition = dict(one["definition"])
    return Policy(one["name"], one["pattern"], one.get("apply-to", "all"), definition, one.get("priority", 0))
