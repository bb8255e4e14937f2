"""Settings of queues that no service reads: the policy that applies, the delivery limit, and a dead-letter queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from runner.config.argument import QUEUE_ARGUMENTS
from runner.config.policy_pattern import matches
from runner.config.topology_file import Topology
from runner.config.version import QUORUM, Version, excludes

#: What stands for a queue type in a policy's ``apply_to``.
BY_TYPE = {"classic": "classic_queues", "quorum": "quorum_queues", "stream": "streams"}
#: The queue type that such a word stands for.
TYPE_OF = {word: kind for kind, word in BY_TYPE.items()}
#: Deliveries of one message after which a quorum queue dead-letters it without a handler's decision. It counts all
#: deliveries without an answer, also of prefetched messages whose worker died. A supervisor finds the crashing message
#: sooner; this limit is for workers without a supervisor. RabbitMQ 4's default is 20, and it then drops the message.
#: Older versions have no default.
DELIVERY_LIMIT = 100
#: Settings with which a queue drops messages, or passes them to another queue, by itself.
_DROPPING = frozenset({"dead-letter-exchange", "max-length", "max-length-bytes", "message-ttl"})


class PolicyLike(Protocol):
    """A policy, as a person writes it or as the broker holds it."""

    @property
    def pattern(self) -> str:
        """A regular expression for names."""

    @property
    def apply_to(self) -> str:
        """The kind of objects that it is for, such as ``queues``."""

    @property
    def definition(self) -> Mapping[str, Any]:
        """Policy keys and their values."""


def applies_to_queue(policy: PolicyLike, name: str, queue_type: str, version: Version | None = None) -> bool | None:
    """Return True if a policy is for a queue; None if its pattern cannot be judged.

    A policy with a key that RabbitMQ does not support for the queue's type is passed over as a whole. Which keys those
    are depends on the broker's version; without one, the newest is assumed.
    """
    if policy.apply_to not in ("all", "queues", BY_TYPE.get(queue_type)):
        return False
    if any(excludes(key, queue_type, version) for key in policy.definition):
        return False
    return matches(policy.pattern, name)


def limits_of_unread(said: Mapping[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Return whether a quorum queue that no service reads gets a dead-letter queue, and its delivery limit.

    A queue that drops messages by itself, or has a dead-letter exchange, needs a limit alone: what it drops would fill
    a dead-letter queue. A negative limit is none (RabbitMQ: "Quorum Queues").
    """
    limit = said.get("delivery-limit", DELIVERY_LIMIT)
    if isinstance(limit, int) and limit < 0:
        return False, {}
    return not said.keys() & _DROPPING, {"delivery-limit": limit}


def has_dead_letter_queue(name: str, topology: Topology) -> bool:
    """Return True if a queue of the file gets a dead-letter queue also without a service that reads it."""
    queue = topology.queues[name]
    if queue.retry or queue.dead_letter or topology.type_of(name) != QUORUM:
        return bool(queue.retry or queue.dead_letter)
    matching = [one for one in topology.policies.values() if applies_to_queue(one, name, QUORUM)]
    own = max(matching, key=lambda policy: policy.priority, default=None)
    said = dict(own.definition) if own is not None else {}
    said |= {QUEUE_ARGUMENTS[key].key: value for key, value in queue.arguments.items() if key in QUEUE_ARGUMENTS}
    return limits_of_unread(said | queue.policy)[0]
