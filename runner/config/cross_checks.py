"""Consistency checks of the names, types and arguments of the objects in topology.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runner.config.argument import (
    EXCHANGE_POLICY_KEYS,
    QUEUE_ARGUMENTS,
    QUEUE_POLICY_KEYS,
    QUEUE_TYPE,
    argument_problem,
    name_problem,
)
from runner.config.document import Document
from runner.config.error_detail import Path, unknown
from runner.config.exchange_type import (
    MATCH,
    arguments_of,
    destination_problem,
    key_problem,
    match_problem,
    problem_together,
    routing_type,
)
from runner.config.leaving_names import check_departures
from runner.config.policy_pattern import matches, pattern_problem
from runner.config.queue_policy import TYPE_OF, has_dead_letter_queue
from runner.config.setting import Setting
from runner.config.topology_file import PREDEFINED_EXCHANGES, PolicySettings, QueueSettings, Topology
from runner.config.value import MAX_NAME_BYTES, check_name, retry_queue_name
from runner.config.version import CLASSIC, STREAM

#: The name prefix of generated policies.
GENERATED = "fastcommerce."
#: The characters that RabbitMQ removes from queue and exchange names (``rabbit_channel:strip_cr_lf``).
_LINE_BREAK = re.compile("[\r\n]")
#: The code of the lint finding for unknown arguments and policy keys. ``lint.ignore`` lists accepted names.
UNKNOWN_ARGUMENT = "unknown-argument"


def exchange_names(document: Document) -> set[str]:
    """Return the names of the predefined exchanges and of all exchanges in the file, even invalid exchanges."""
    return {*PREDEFINED_EXCHANGES, *document.keys_of("exchanges")}


def check_references(topology: Topology, document: Document) -> None:
    """Report the errors in topology.yaml that involve more than one value."""
    exchanges = exchange_names(document)
    queues = document.keys_of("queues")
    for section in ("exchanges", "queues"):
        for name in document.keys_of(section):
            _check_declared_name(name, (section, name), document)
    for name, exchange in topology.exchanges.items():
        path: Path = ("exchanges", name)
        if exchange.alternate_exchange is not None and exchange.alternate_exchange not in exchanges:
            place: Path = (*path, "alternate_exchange")
            document.fault(place, unknown("exchange", exchange.alternate_exchange, exchanges, document.shown(place)))
        place = (*path, "arguments")
        _check_settings(exchange.arguments, place, arguments_of(exchange.type), None, topology, document)
        if (found := problem_together(exchange.type, exchange.arguments)) is not None:
            key, problem = found
            document.fault(path if key is None else (*place, key), problem)
    for name, queue in topology.queues.items():
        for source in queue.bind:
            if source not in exchanges:
                document.fault(("queues", name, "bind", source), unknown("exchange", source, exchanges))
        _check_queue(name, queue, topology, document)
    for index, binding in enumerate(topology.bindings):
        if binding.source not in exchanges:
            place = ("bindings", index, "source")
            document.fault(place, unknown("exchange", binding.source, exchanges, document.shown(place)))
        kind = binding.destination_type
        allowed = queues if kind == "queue" else exchanges
        if binding.destination not in allowed:
            place = ("bindings", index, "destination")
            document.fault(place, unknown(kind, binding.destination, allowed, document.shown(place)))
    _check_bindings(topology, document)
    for name, policy in topology.policies.items():
        _check_policy(name, policy, topology, document)
        _check_pattern(name, policy, topology, document)
    check_departures(topology, document)


def _check_bindings(topology: Topology, document: Document) -> None:
    """Report bindings that RabbitMQ refuses because of the exchange type."""
    own = {name: routing_type(one.type, one.arguments) for name, one in topology.exchanges.items()}
    types = PREDEFINED_EXCHANGES | own
    found: list[tuple[Path, str | None]] = []
    for name, queue in topology.queues.items():
        for source, keys in queue.bind.items():
            kind, path = types.get(source, ""), ("queues", name, "bind", source)
            found += [((*path, at), key_problem(kind, key)) for at, key in enumerate(keys)]
            found += [(path, destination_problem(kind, name, topology.type_of(name)))] if keys else []
    for index, one in enumerate(topology.bindings):
        kind, is_to_queue, place = types.get(one.source, ""), one.destination_type == "queue", ("bindings", index)
        match = (*place, "arguments", MATCH)
        found.append((match, match_problem(kind, one.arguments, document.shown(match))))
        found += [((*place, "arguments", name), name_problem(name)) for name in one.arguments]
        found.append(((*place, "routing_key"), key_problem(kind, one.routing_key)))
        if not is_to_queue or one.destination in topology.queues:
            queue_type = topology.type_of(one.destination) if is_to_queue else None
            found.append((place, destination_problem(kind, one.destination, queue_type)))
    for where, problem in found:
        if problem is not None:
            document.fault(where, problem)


def _check_declared_name(name: str, path: tuple[str, str], document: Document) -> None:
    try:
        check_name(name)
    except ValueError as error:
        document.fault(path, str(error))
    if _LINE_BREAK.search(name):
        document.fault(path, f"a line break in a name, {name!r}; allowed: names without line breaks")
    if name.startswith("amq."):
        document.fault(path, f"reserved by the broker, {name!r}; allowed: names that do not start with 'amq.'")


def _check_queue(name: str, queue: QueueSettings, topology: Topology, document: Document) -> None:
    path: Path = ("queues", name)
    kind = topology.type_of(name)
    if queue.dead_letter == name:
        place: Path = (*path, "dead_letter")
        document.fault(place, f"the name of the queue itself, {document.shown(place)}; allowed: another name")
    if queue.dead_letter is not None and _LINE_BREAK.search(queue.dead_letter):
        place = (*path, "dead_letter")
        document.fault(place, f"a line break in a name, {document.shown(place)}; allowed: names without line breaks")
    if kind == STREAM:
        for key in ("retry", "dead_letter"):
            if getattr(queue, key):
                document.fault(
                    (*path, key), f"{key!r} cannot be set for a stream; a stream keeps messages that were consumed"
                )
    if kind != CLASSIC and not topology.is_durable(name):
        place = topology.durable_path(name)
        of = f" of {name!r}" if place[0] == "defaults" else ""
        document.fault(place, f"'durable'{of} cannot be false for a {kind} queue; allowed: true")
    if kind != CLASSIC and queue.auto_delete:
        document.fault((*path, "auto_delete"), f"'auto_delete' cannot be true for a {kind} queue; allowed: false")
    _check_retry(name, queue, document)
    _check_generated(name, queue, topology, document)
    _check_settings(queue.policy, (*path, "policy"), QUEUE_POLICY_KEYS, kind, topology, document)
    arguments = dict(queue.arguments)
    if QUEUE_TYPE in arguments:
        del arguments[QUEUE_TYPE]
        document.fault((*path, "arguments", QUEUE_TYPE), "the queue type is not an argument here; write type: TYPE")
    _check_settings(arguments, (*path, "arguments"), QUEUE_ARGUMENTS, kind, topology, document)
    _check_together(queue.policy, "", (*path, "policy"), document)
    _check_together(arguments, "x-", (*path, "arguments"), document)
    for key in queue.policy:
        if f"x-{key}" in queue.arguments:
            document.fault((*path, "policy", key), f"conflicts with the argument 'x-{key}'; keep only one of the two")


def _check_together(values: Mapping[str, Any], start: str, path: Path, document: Document) -> None:
    """Report combinations of keys that RabbitMQ refuses."""
    kind, least, most = (f"{start}delayed-retry-{end}" for end in ("type", "min", "max"))
    if values.get(kind, "disabled") != "disabled" and least not in values:
        document.fault((*path, kind), f"requires {least!r}; add this key")
    low, high = values.get(least), values.get(most)
    if isinstance(low, int) and isinstance(high, int) and high < low:
        document.fault((*path, most), f"less than {least!r}, {document.shown((*path, most))}; allowed: {low} or more")
    route = f"{start}dead-letter-routing-key"
    # A policy can omit the dead-letter exchange, because the generated policy may add the exchange.
    if start and route in values and f"{start}dead-letter-exchange" not in values:
        document.fault((*path, route), f"requires '{start}dead-letter-exchange'; add this key")


def _check_settings(
    values: Mapping[str, Any],
    path: Path,
    known: Mapping[str, Setting],
    kind: str | None,
    topology: Topology,
    document: Document,
) -> None:
    accepted = topology.lint.ignore.get(UNKNOWN_ARGUMENT, ())
    for key, value in values.items():
        problem = argument_problem(
            key,
            value,
            document.shown((*path, key)),
            known,
            kind,
            is_policy=path[-1] != "arguments",
            accepted=accepted,
        )
        if problem is not None:
            document.fault((*path, key), problem)


def _check_retry(name: str, queue: QueueSettings, document: Document) -> None:
    for index, delay in enumerate(queue.retry):
        path = ("queues", name, "retry", index)
        # RabbitMQ stores a TTL as an unsigned 32-bit number of milliseconds (RabbitMQ: "Time-To-Live").
        if not 0.001 <= delay <= 4_294_967:
            document.fault(path, f"out of range, {document.shown(path)}; allowed: 1ms to 49d")
        elif delay in queue.retry[:index]:
            document.fault(path, f"duplicate delay, {document.shown(path)}; allowed: each delay once")


def _check_generated(name: str, queue: QueueSettings, topology: Topology, document: Document) -> None:
    """Report retry queues and dead-letter queues whose names are in use or too long."""
    for index, delay in enumerate(queue.retry):
        waiting = retry_queue_name(name, delay)
        if waiting in document.keys_of("queues"):
            text = f"reserved for a retry queue of {name!r}, {waiting!r}; allowed: another name"
            document.fault(("queues", waiting), text)
        elif len(waiting.encode()) > MAX_NAME_BYTES:
            text = f"the retry queue's name is too long, {waiting!r}; allowed: {MAX_NAME_BYTES} bytes (AMQP 0-9-1)"
            document.fault(("queues", name, "retry", index), text)
    dead_letter = topology.dead_letter_of(name)
    is_long = len(name.encode()) <= MAX_NAME_BYTES < len(dead_letter.encode())
    if is_long and has_dead_letter_queue(name, topology):
        text = f"the dead-letter queue name is too long; set dead_letter to a name of up to {MAX_NAME_BYTES} bytes"
        document.fault(("queues", name), text)


def _check_policy(name: str, policy: PolicySettings, topology: Topology, document: Document) -> None:
    path: Path = ("policies", name)
    if name.startswith(GENERATED):
        text = f"reserved for generated policies, {name!r}; allowed: names that do not start with {GENERATED!r}"
        document.fault(path, text)
    if not policy.definition:
        document.fault((*path, "definition"), "the definition is empty; allowed: policy keys, such as max-length: 1000")
    known: dict[str, Setting] = {}
    if policy.apply_to in ("all", "exchanges"):
        known |= EXCHANGE_POLICY_KEYS
    if policy.apply_to != "exchanges":
        known |= QUEUE_POLICY_KEYS
    _check_together(policy.definition, "", (*path, "definition"), document)
    _check_settings(policy.definition, (*path, "definition"), known, TYPE_OF.get(policy.apply_to), topology, document)


def _check_pattern(name: str, policy: PolicySettings, topology: Topology, document: Document) -> None:
    """Report a pattern that cannot be evaluated. A generated policy must include the keys of matching policies."""
    place: Path = ("policies", name, "pattern")
    if (problem := pattern_problem(policy.pattern)) is not None:
        document.fault(place, f"not a RabbitMQ regular expression, {document.shown(place)}; {problem}")
        return
    waiting = (retry_queue_name(one, delay) for one, queue in topology.queues.items() for delay in queue.retry)
    dead_letters = (topology.dead_letter_of(one) for one in topology.queues)
    for thing in dict.fromkeys((*topology.exchanges, *topology.queues, *waiting, *dead_letters)):
        if matches(policy.pattern, thing) is None:
            allowed = "patterns that match in few steps, without character classes for non-ASCII names"
            text = f"cannot be evaluated for the name {thing!r}, {document.shown(place)}; allowed: {allowed}"
            document.fault(place, text)
            return
