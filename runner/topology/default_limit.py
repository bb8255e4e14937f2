"""Quorum queues for which only RabbitMQ's own delivery limit holds, because this user may set no policies."""

from __future__ import annotations

from collections.abc import Iterator

from runner.config.version import DEFAULT_DELIVERY_LIMIT, HAS_DELIVERY_LIMIT, dotted
from runner.topology.effective_settings import Policies
from runner.topology.family import owner_of_policy
from runner.topology.live import Live
from runner.topology.model import Objects, Queue


def at_default_limit(objects: Objects, wanted: Objects, live: Live) -> Iterator[tuple[Queue, str]]:
    """Yield each quorum queue that drops messages at the default limit, and a line about it.

    ``objects`` are compiled without policies, ``wanted`` with them.
    """
    if not HAS_DELIVERY_LIMIT.holds(live.version):
        return
    policies = Policies(live.policies.values(), live.version)
    limited = {owner_of_policy(one.name) for one in wanted.policies if "delivery-limit" in one.definition}
    for queue in objects.queues:
        there = live.queues.get(queue.name)
        said = {"x-delivery-limit"} & queue.arguments.keys()
        if ("queue", queue.name) not in limited or said:
            continue
        if there is None or "delivery-limit" not in policies.settings_of(there.queue):
            yield (
                queue,
                f"queue {queue.name!r}: no delivery limit of its own, and no place for what passes it: RabbitMQ"
                f" {dotted(live.version)} drops a message at its {DEFAULT_DELIVERY_LIMIT + 1}st delivery; it takes"
                " RabbitMQ's HTTP API and a user with the tag policymaker",
            )
