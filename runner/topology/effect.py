"""What holds of an exchange or a queue: its arguments, and the one policy that applies to it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from runner.config.argument import EXCHANGE_ARGUMENTS, QUEUE_ARGUMENTS, QUEUE_POLICY_KEYS
from runner.topology.model import Exchange, Policy, Queue

#: What stands for a queue type in a policy's ``apply_to``.
_BY_TYPE = {"classic": "classic_queues", "quorum": "quorum_queues", "stream": "streams"}


def applies(policy: Policy, thing: Exchange | Queue) -> bool:
    """Whether a policy is for this exchange or queue.

    One that holds a key which the queue's type does not know is passed over as a whole (RabbitMQ: "Policies").
    """
    if isinstance(thing, Exchange):
        if policy.apply_to not in ("all", "exchanges"):
            return False
    else:
        if policy.apply_to not in ("all", "queues", _BY_TYPE.get(thing.type)):
            return False
        for key in policy.definition:
            if key in QUEUE_POLICY_KEYS and thing.type not in QUEUE_POLICY_KEYS[key].types:
                return False
    return re.search(policy.pattern, thing.name) is not None


class Policies:
    """Finds the policy that applies, also among thousands of which each is for one name."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._by_name: dict[str, list[Policy]] = defaultdict(list)
        self._others: list[Policy] = []
        for policy in policies:
            name = _only_name(policy.pattern)
            (self._others if name is None else self._by_name[name]).append(policy)

    def applying(self, thing: Exchange | Queue) -> Policy | None:
        """The policy that applies: of those that match, the one with the highest priority, and never two."""
        candidates = (*self._others, *self._by_name.get(thing.name, ()))
        matching = [policy for policy in candidates if applies(policy, thing)]
        # Which of two with the same priority applies, the broker leaves open.
        return max(matching, key=lambda policy: policy.priority, default=None)

    def settings_of(self, thing: Exchange | Queue) -> dict[str, Any]:
        """What holds, by policy key; where an argument and the policy say different things, the argument's value."""
        policy = self.applying(thing)
        known = EXCHANGE_ARGUMENTS if isinstance(thing, Exchange) else QUEUE_ARGUMENTS
        result = dict(policy.definition) if policy is not None else {}
        result |= {known[key].key: value for key, value in thing.arguments.items() if key in known}
        return result


def _only_name(pattern: str) -> str | None:
    """The one name that a pattern with nothing but an escaped name between ``^`` and ``$`` matches."""
    if not (pattern.startswith("^") and pattern.endswith("$")):
        return None
    name = re.sub(r"\\(.)", r"\1", pattern[1:-1])
    return name if re.escape(name) == pattern[1:-1] else None
