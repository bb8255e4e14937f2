"""The policy that applies to a queue on the broker, also while RabbitMQ's statistics do not have it yet."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from runner.admin.management import Management
from runner.admin.management_api import ManagementError
from runner.config.version import DEFAULT_DELIVERY_LIMIT, HAS_DELIVERY_LIMIT, QUORUM, parsed
from runner.topology.effective_settings import Policies
from runner.topology.model import Queue

_LIMIT = "delivery-limit"


def definition_of(
    management: Management, queue: Mapping[str, Any], assumed: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Return the definition of the policy that applies to a queue, by the HTTP API's object of the queue.

    The object has it from statistics, which lack it for some seconds after the start of a queue or of its node: 5 s by
    default (RabbitMQ: "Configuration", collect_statistics_interval). Then it is computed from the policies, or is
    ``assumed`` if this user may not read them. Raises ManagementError.
    """
    found = queue.get("effective_policy_definition")
    if found and isinstance(found, dict):
        return found
    try:
        policies = Policies(management.policies())
    except ManagementError as error:
        if not error.is_denied:
            raise
        return dict(assumed)
    # A classic queue need not have its type among its arguments.
    arguments = {**(queue.get("arguments") or {}), "x-queue-type": queue.get("type", "classic")}
    applying = policies.applying(Queue(str(queue["name"]), bool(queue.get("durable")), arguments))
    return dict(applying.definition) if applying is not None else {}


def delivery_limit_of(management: Management, name: str) -> int | None:
    """Return how often a queue may deliver one message in vain before it dead-letters or drops it; None for no limit.

    Raises ManagementError.
    """
    found = management.queue(name)
    if found.get("type") != QUORUM:
        return None
    arguments, policy = found.get("arguments") or {}, definition_of(management, found)
    limits = [int(one) for one in (arguments.get(f"x-{_LIMIT}"), policy.get(_LIMIT)) if isinstance(one, int)]
    if not limits:
        version = str(management.request("GET", "overview", query="?columns=rabbitmq_version")["rabbitmq_version"])
        return DEFAULT_DELIVERY_LIMIT if HAS_DELIVERY_LIMIT.holds(parsed(version)) else None
    return min(limits) if min(limits) >= 0 else None
