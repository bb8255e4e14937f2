"""Extensions: arguments, policy keys and exchange types of topology.yaml that only a plugin of the broker can know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runner.config.argument import EXCHANGE_POLICY_KEYS, QUEUE_ARGUMENTS, QUEUE_POLICY_KEYS
from runner.config.cross_checks import UNKNOWN_ARGUMENT
from runner.config.error_detail import Path
from runner.config.exchange_type import EXCHANGE_TYPES, arguments_of
from runner.config.topology_file import Topology

UNKNOWN_TYPE = "unknown-exchange-type"


@dataclass(frozen=True)
class Extension:
    """One use of an extension: the code of its finding, the name of the extension, and its place."""

    code: str
    name: str
    path: Path
    reason: str


def extensions(topology: Topology) -> Iterator[Extension]:
    """Yield each use of an extension. RabbitMQ ignores an argument that neither it nor a plugin knows."""
    for name, exchange in topology.exchanges.items():
        path: Path = ("exchanges", name)
        if exchange.type not in EXCHANGE_TYPES:
            reason = f"{exchange.type!r} of {name!r} is not a type of RabbitMQ, so its bindings are not checked"
            yield Extension(UNKNOWN_TYPE, exchange.type, (*path, "type"), reason)
        known = arguments_of(exchange.type)
        if exchange.type in EXCHANGE_TYPES:
            yield from _unknown(name, exchange.arguments, known, (*path, "arguments"))
    policy_keys = {**EXCHANGE_POLICY_KEYS, **QUEUE_POLICY_KEYS}
    for name, queue in topology.queues.items():
        yield from _unknown(name, queue.arguments, QUEUE_ARGUMENTS, ("queues", name, "arguments"))
        yield from _unknown(name, queue.policy, policy_keys, ("queues", name, "policy"))
    for name, policy in topology.policies.items():
        yield from _unknown(name, policy.definition, policy_keys, ("policies", name, "definition"))


def _unknown(name: str, said: Mapping[str, object], known: Mapping[str, object], path: Path) -> Iterator[Extension]:
    for key in said:
        if key not in known:
            reason = f"{key!r} of {name!r} is not one of RabbitMQ's: without a plugin that knows it, it does nothing"
            yield Extension(UNKNOWN_ARGUMENT, key, (*path, key), reason)
