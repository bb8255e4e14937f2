"""The policy, the delivery limit and the dead-letter queue of queues that no service consumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from runner.config.argument import QUEUE_ARGUMENTS
from runner.config.policy_pattern import matches
from runner.config.topology_file import Topology
from runner.config.version import QUORUM, Version, excludes

#: The value of a policy's ``apply_to`` for each queue type.
BY_TYPE = {"classic": "classic_queues", "quorum": "quorum_queues", "stream": "streams"}
#: The queue type for each value of ``apply_to`` that names a type.
TYPE_OF = {word: kind for kind, word in BY_TYPE.items()}
#: The number of deliveries after which a quorum queue dead-letters a message. RabbitMQ counts all unacknowledged
#: deliveries, including messages that a crashed worker had prefetched. This limit is for workers without a supervisor,
#: because a supervisor detects crashing messages sooner. RabbitMQ 4 drops a message after 20 deliveries by default.
#: Older versions have no default limit.
DELIVERY_LIMIT = 100
#: The settings with which a queue itself drops or dead-letters messages.
_DROPPING = frozenset({"dead-letter-exchange", "max-length", "max-length-bytes", "message-ttl"})


class PolicyLike(Protocol):
    """A policy in topology.yaml or on the broker."""

    @property
    def pattern(self) -> str:
        """The regular expression for the names of matching objects."""

    @property
    def apply_to(self) -> str:
        """The kind of objects to which the policy applies, such as ``queues``."""

    @property
    def definition(self) -> Mapping[str, Any]:
        """The policy keys and their values."""


def applies_to_queue(policy: PolicyLike, name: str, queue_type: str, version: Version | None = None) -> bool | None:
    """Return True if a policy applies to a queue, or None if the policy's pattern cannot be evaluated.

    RabbitMQ ignores a whole policy if the queue type does not support one of the keys. The set of unsupported keys
    depends on ``version``, which is the newest version by default.
    """
    if policy.apply_to not in ("all", "queues", BY_TYPE.get(queue_type)):
        return False
    if any(excludes(key, queue_type, version) for key in policy.definition):
        return False
    return matches(policy.pattern, name)


def limits_of_unread(said: Mapping[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Return the settings that a quorum queue needs if no service consumes from it.

    The first value is True if the queue needs a dead-letter queue. The second value contains the delivery limit. A
    queue that itself drops or dead-letters messages needs only the limit, because dropped messages would fill a
    dead-letter queue. A negative limit means no limit (RabbitMQ: "Quorum Queues").
    """
    limit = said.get("delivery-limit", DELIVERY_LIMIT)
    if isinstance(limit, int) and limit < 0:
        return False, {}
    return not said.keys() & _DROPPING, {"delivery-limit": limit}


def has_dead_letter_queue(name: str, topology: Topology) -> bool:
    """Return True if a queue gets a dead-letter queue even if no service consumes the queue."""
    queue = topology.queues[name]
    if queue.retry or queue.dead_letter or topology.type_of(name) != QUORUM:
        return bool(queue.retry or queue.dead_letter)
    matching = [one for one in topology.policies.values() if applies_to_queue(one, name, QUORUM)]
    own = max(matching, key=lambda policy: policy.priority, default=None)
    said = dict(own.definition) if own is not None else {}
    said |= {QUEUE_ARGUMENTS[key].key: value for key, value in queue.arguments.items() if key in QUEUE_ARGUMENTS}
    return limits_of_unread(said | queue.policy)[0]
