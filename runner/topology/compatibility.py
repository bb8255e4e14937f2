"""The compatibility of topology.yaml with the version and the plugins of a broker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from runner.config.argument import EXCHANGE_POLICY_KEYS, QUEUE_ARGUMENTS, QUEUE_POLICY_KEYS, version_problems
from runner.config.cross_checks import UNKNOWN_ARGUMENT
from runner.config.error_detail import Path
from runner.config.exchange_type import DELAYED_TYPE, EXCHANGE_TYPES, arguments_of, routing_type
from runner.config.queue_policy import TYPE_OF
from runner.config.topology_file import Topology
from runner.config.version import (
    EXCHANGE_TYPE_VERSIONS,
    HAS_POLICIES_BY_TYPE,
    LIMITS_HASHES,
    MOST_HASHES,
    TRANSIENT_QUEUES,
    dotted,
)
from runner.topology.compile import path_of, policy_name
from runner.topology.finding import UNKNOWN_TYPE, Finding
from runner.topology.live import Live
from runner.topology.model import Exchange, Objects, Policy, Queue
from runner.topology.plan import Change, Mark, binding_name


@dataclass(frozen=True)
class Conflict:
    """One object or setting in topology.yaml that the broker refuses."""

    path: Path
    text: str
    #: The kind and the name, as in ``Change``, of each object that depends on the refused object or setting.
    things: tuple[tuple[str, str], ...]

    def is_of(self, changes: Iterable[Change]) -> bool:
        """Return True if one of the changes would cause this conflict. Existing objects cause no conflict."""
        asked = (Mark.CREATE, Mark.CHANGE, Mark.REPLACE)
        return any((one.kind, one.name) in self.things and one.mark in asked and not one.is_removal for one in changes)


def conflicts(objects: Objects, live: Live, topology: Topology) -> Iterator[Conflict]:
    """Yield the objects and settings that the broker refuses, each with its path in topology.yaml."""
    for exchange in objects.exchanges:
        span = EXCHANGE_TYPE_VERSIONS.get(exchange.type)
        if span is not None and (problem := span.problem(live.version)) is not None:
            yield from _conflict(exchange, "type", exchange.type, problem, topology)
        elif live.exchange_types and (missing := _missing_type(exchange, live)) is not None:
            kind, place = missing
            yield Conflict(
                (*path_of(exchange, topology), *place),
                f"exchange {exchange.name!r}: the broker has no exchange type {kind!r}; enable the plugin"
                " that provides it, or remove the exchange",
                (("exchange", exchange.name),),
            )
        yield from _arguments(exchange, None, live, topology)
    for queue in objects.queues:
        yield from _arguments(queue, queue.type, live, topology)
    if (problem := TRANSIENT_QUEUES.problem(live.version, live.denied)) is not None:
        yield from _transient(objects, problem, topology)
    for policy in objects.policies:
        yield from _policy(policy, objects, live, topology)
    if LIMITS_HASHES.holds(live.version):
        yield from _binding_keys(objects, live, topology)


def _missing_type(exchange: Exchange, live: Live) -> tuple[str, Path] | None:
    """Return the exchange type that the broker lacks, and the path to it in the exchange's definition.

    An exchange of type ``x-delayed-message`` also needs the type by which it routes.
    """
    behind = routing_type(exchange.type, exchange.arguments)
    for kind, place in ((exchange.type, ("type",)), (behind, ("arguments", DELAYED_TYPE))):
        if kind not in live.exchange_types:
            return kind, place
    return None


def _binding_keys(objects: Objects, live: Live, topology: Topology) -> Iterator[Conflict]:
    topics = {one.name for one in objects.exchanges if routing_type(one.type, one.arguments) == "topic"}
    for binding in objects.bindings:
        count = binding.routing_key.split(".").count("#")
        if binding.source in topics and count > MOST_HASHES:
            name = binding_name(binding)
            yield Conflict(
                path_of(binding, topology),
                f"binding {name!r}: its key contains {count} '#' words, but RabbitMQ {dotted(LIMITS_HASHES.span.since)}"
                f" and later allow {MOST_HASHES} (this version: {dotted(live.version)}); remove it, or use another"
                " broker",
                (("binding", name),),
            )


def _transient(objects: Objects, problem: str, topology: Topology) -> Iterator[Conflict]:
    """Yield one conflict for each setting that makes queues transient, with all affected queues."""
    places: dict[Path, list[str]] = {}
    for queue in objects.queues:
        if not queue.durable:
            path = path_of(queue, topology)
            places.setdefault(topology.durable_path(str(path[1])), []).append(queue.name)
    for place, names in places.items():
        listed = ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        said = f"queue {listed}" if len(names) == 1 else f"queues {listed}"
        text = f"{said}: durable: false {problem}; remove it, or use another broker"
        yield Conflict(place, text, tuple(("queue", name) for name in names))


def _arguments(thing: Exchange | Queue, kind: str | None, live: Live, topology: Topology) -> Iterator[Conflict]:
    for key, problem in version_problems(thing.arguments, live.version, queue_type=kind, denied=live.denied).items():
        yield from _conflict(thing, key, key, problem, topology)


def _policy(policy: Policy, objects: Objects, live: Live, topology: Topology) -> Iterator[Conflict]:
    types = {policy_name("queue", one.name): (one.name, one.type) for one in objects.queues}
    name, kind = types.get(policy.name, (None, TYPE_OF.get(policy.apply_to)))
    if policy.apply_to in TYPE_OF:
        problem = HAS_POLICIES_BY_TYPE.span.problem(live.version)
        yield from _conflict(policy, "apply_to", f"apply_to: {policy.apply_to}", problem, topology)
    found = version_problems(policy.definition, live.version, is_policy=True, queue_type=kind, denied=live.denied)
    for key, problem in found.items():
        # A setting that comes from a policy in topology.yaml is reported only for that policy.
        if name is None or (name in topology.queues and key in topology.queues[name].policy):
            yield from _conflict(policy, key, key, problem, topology)


def _conflict(
    thing: Exchange | Queue | Policy, key: str, words: str, problem: str | None, topology: Topology
) -> Iterator[Conflict]:
    if problem is None:
        return
    path = path_of(thing, topology)
    kind = type(thing).__name__.lower()
    name = thing.name
    changed = (kind, name)
    if isinstance(thing, Policy):
        is_own = path[0] == "policies"
        path = (*path, *(("apply_to",) if key == "apply_to" else ("definition" if is_own else "policy", key)))
        kind, name = ("policy", thing.name) if is_own else (str(path[0])[:-1], str(path[1]))
    else:
        path = (*path, *((key,) if key == "type" else ("arguments", key)))
    yield Conflict(path, f"{kind} {name!r}: {words} {problem}; remove it, or use another broker", (changed,))


def extensions(topology: Topology) -> Iterator[Finding]:
    """Yield a finding about each argument, policy key and exchange type that is not built into RabbitMQ.

    Each finding is named after its argument, key or type. RabbitMQ ignores an argument that no plugin supports.
    """
    for name, exchange in topology.exchanges.items():
        path: Path = ("exchanges", name)
        if exchange.type not in EXCHANGE_TYPES:
            reason = (
                f"{exchange.type!r} is not built into RabbitMQ, so the bindings of exchange {name!r} are not checked"
            )
            yield Finding(UNKNOWN_TYPE, exchange.type, "topology.yaml", (*path, "type"), reason)
        known = arguments_of(exchange.type)
        if exchange.type in EXCHANGE_TYPES:
            yield from _unknown(name, exchange.arguments, known, (*path, "arguments"))
    policy_keys = {**EXCHANGE_POLICY_KEYS, **QUEUE_POLICY_KEYS}
    for name, queue in topology.queues.items():
        yield from _unknown(name, queue.arguments, QUEUE_ARGUMENTS, ("queues", name, "arguments"))
        yield from _unknown(name, queue.policy, policy_keys, ("queues", name, "policy"))
    for name, policy in topology.policies.items():
        yield from _unknown(name, policy.definition, policy_keys, ("policies", name, "definition"))


def _unknown(name: str, said: Mapping[str, object], known: Mapping[str, object], path: Path) -> Iterator[Finding]:
    for key in said:
        if key not in known:
            reason = f"{key!r} is not built into RabbitMQ, and has no effect on {name!r} unless a plugin supports it"
            yield Finding(UNKNOWN_ARGUMENT, key, "topology.yaml", (*path, key), reason)
