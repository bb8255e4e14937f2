"""The delivery limits of dead-letter queues. A quorum queue counts each read of a message as a failed delivery."""

from __future__ import annotations

from collections.abc import Iterable

from runner.admin.management import Management
from runner.admin.management_api import ManagementError
from runner.config.version import QUORUM
from runner.topology.effective_settings import Policies
from runner.topology.model import Objects


def read_limits(queues: Iterable[str], objects: Objects, management: Management) -> dict[str, int]:
    """Return the delivery limit of each queue that has one. ``objects`` is the compiled topology."""
    limits = {name: _limit_of(name, objects, management) for name in queues}
    return {name: limit for name, limit in limits.items() if limit is not None}


def _limit_of(name: str, objects: Objects, management: Management) -> int | None:
    try:
        return management.delivery_limit_of(name)
    except ManagementError:
        pass  # without the HTTP API, only the limit in topology.yaml is known
    for queue in objects.queues:
        if queue.name == name and queue.type == QUORUM:
            policy = Policies(objects.policies).settings_of(queue)
            limit = queue.arguments.get("x-delivery-limit", policy.get("delivery-limit"))
            return limit if isinstance(limit, int) and limit >= 0 else None
    return None
