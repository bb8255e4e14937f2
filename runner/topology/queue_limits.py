"""Queue limits: length limits below the current number of messages, and RabbitMQ's default delivery limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.config.version import CLASSIC, DEFAULT_DELIVERY_LIMIT, HAS_DELIVERY_LIMIT, dotted
from runner.topology.compile import owner_of_policy
from runner.topology.effective_settings import Policies
from runner.topology.live import DRAIN_SUFFIXES, Live, LiveQueue
from runner.topology.model import Objects, Queue
from runner.topology.plan import Mark, Plan, counted
from runner.topology.rename import renames

#: The maximum number of queues whose messages are counted individually.
MOST_COUNTED = 1000
#: RabbitMQ's default value of ``overflow``, with which a full queue drops its oldest messages.
DROPS = "drop-head"


def lowered_limits(objects: Objects, live: Live, policies: Policies) -> Iterator[str]:
    """Yield a warning for each limit below the number of messages, because a classic queue would drop the excess."""
    for queue, there, limit in _new_limits(objects, live, policies):
        if there.messages is None or there.messages > limit:
            verb = "is" if there.messages is not None else "may be"
            risk = f"{verb} too low for {counted(there.messages, 'message')}"
            yield f"queue {queue.name!r}: max-length {limit} {risk}; a classic queue drops the excess immediately"


def lacks_room(wanted: Mapping[str, Any], before: Mapping[str, Any], messages: int) -> str | None:
    """Return the limit that leaves no room for ``messages`` in the new queue, or None if there is room.

    ``wanted`` contains the settings of the new queue, and ``before`` the settings of the queue that currently contains
    the messages. The size of messages is not measured, so a new or lower ``max-length-bytes`` is refused if the broker
    would drop messages to meet this limit.
    """
    if not messages:
        return None
    length, size, old = wanted.get("max-length"), wanted.get("max-length-bytes"), before.get("max-length-bytes")
    held = counted(messages, "message")
    if isinstance(length, int) and messages > length:
        return f"max-length {length} has no room for {held}; raise it, or consume some first"
    if isinstance(size, int) and wanted.get("overflow", DROPS) == DROPS and not (isinstance(old, int) and old <= size):
        return f"max-length-bytes {size} may have no room for {held}; raise it, or set overflow: reject-publish"
    return None


def uncounted(plan: Plan, objects: Objects, live: Live, *, is_sure: bool = False) -> list[str]:
    """Return at most MOST_COUNTED queues whose counts the plan needs and the HTTP API does not report.

    The counts from the HTTP API are a few seconds old. So the result includes queues to replace that were empty, and if
    ``is_sure`` is True, FastCommerce's queues that are no longer in topology.yaml.
    """
    gone = {
        one.name for one in plan.of(Mark.UNMANAGED, Mark.RETIRE) if isinstance(one.thing, Queue)
    } & live.owned.queues
    changed = [one.name for one in plan.of(Mark.REPLACE, Mark.RETIRE) if isinstance(one.thing, Queue)]
    policies = Policies(objects.policies, live.version or None)
    names = dict.fromkeys(f"{name}{suffix}" for name in changed for suffix in ("", *DRAIN_SUFFIXES))
    names |= dict.fromkeys(queue.name for queue, _, _ in _new_limits(objects, live, policies))
    names |= dict.fromkeys(name for one in renames(objects, live) for name in one.sources)
    names |= dict.fromkeys(sorted(gone))
    known = {name: live.queues[name] for name in names if name in live.queues and not live.queues[name].is_exclusive}
    empty = [one.name for one in plan.of(Mark.REPLACE) if one.messages == 0]
    old = {f"{name}{suffix}" for name in empty for suffix in ("", *DRAIN_SUFFIXES)} | (gone if is_sure else set())
    return [name for name, one in known.items() if one.messages is None or name in old][:MOST_COUNTED]


def _new_limits(objects: Objects, live: Live, policies: Policies) -> Iterator[tuple[Queue, LiveQueue, int]]:
    before = Policies(live.policies.values(), live.version or None)
    for queue in objects.queues:
        there = live.queues.get(queue.name)
        limit = policies.settings_of(queue).get("max-length")
        if there is None or there.queue.type != CLASSIC or not isinstance(limit, int):
            continue
        if before.settings_of(there.queue).get("max-length") != limit:
            yield queue, there, limit


def at_default_limit(objects: Objects, wanted: Objects, live: Live) -> Iterator[tuple[Queue, str]]:
    """Yield each quorum queue that drops messages at the default delivery limit, with a warning about the queue.

    ``objects`` was compiled without policies, and ``wanted`` with policies.
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
                f"queue {queue.name!r}: without a policy, RabbitMQ {dotted(live.version)} drops a message at its"
                f" {DEFAULT_DELIVERY_LIMIT + 1}st delivery; a policy requires RabbitMQ's HTTP API and a user with the"
                " policymaker tag",
            )
