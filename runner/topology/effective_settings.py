"""The effective settings of an exchange or queue, from its arguments and the one policy that applies to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from runner.config.argument import EXCHANGE_ARGUMENTS, QUEUE_ARGUMENTS
from runner.config.policy_pattern import matches, only_names
from runner.config.queue_policy import applies_to_queue
from runner.config.version import Version
from runner.topology.model import Exchange, Policy, Queue


def applies(policy: Policy, thing: Exchange | Queue, version: Version | None = None) -> bool | None:
    """Return True if a policy matches this exchange or queue, or None if its pattern cannot be evaluated.

    ``version`` is the broker's version, or None for the newest version.
    """
    if isinstance(thing, Queue):
        return applies_to_queue(policy, thing.name, thing.type, version)
    return matches(policy.pattern, thing.name) if policy.apply_to in ("all", "exchanges") else False


class Policies:
    """A set of policies. The lookup is fast even if thousands of policies each match a single name."""

    def __init__(self, policies: Iterable[Policy], version: Version | None = None) -> None:
        self._version = version
        self._by_name: dict[str, list[Policy]] = defaultdict(list)
        self._others: list[Policy] = []
        for policy in policies:
            names = only_names(policy.pattern)
            for name in names or ():
                self._by_name[name].append(policy)
            self._others += [policy] if names is None else []

    def applying(self, thing: Exchange | Queue) -> Policy | None:
        """Return the policy that applies, which is the matching policy with the highest priority.

        Return None if none matches. Policies that cannot be evaluated are ignored here, and ``doubtful`` yields these
        policies.
        """
        candidates = (*self._others, *self._by_name.get(thing.name, ()))
        matching = [policy for policy in candidates if applies(policy, thing, self._version)]
        # RabbitMQ does not define which policy applies if several policies have the same priority.
        return max(matching, key=lambda policy: policy.priority, default=None)

    def doubtful(self, thing: Exchange | Queue) -> Iterator[Policy]:
        """Yield the policies that might apply to an object, but whose pattern cannot be evaluated."""
        yield from (policy for policy in self._others if applies(policy, thing, self._version) is None)

    def settings_of(self, thing: Exchange | Queue) -> dict[str, Any]:
        """Return the effective settings by policy key. An argument overrides the policy."""
        policy = self.applying(thing)
        known = EXCHANGE_ARGUMENTS if isinstance(thing, Exchange) else QUEUE_ARGUMENTS
        result = dict(policy.definition) if policy is not None else {}
        result |= {known[key].key: value for key, value in thing.arguments.items() if key in known}
        return result
