"""The ready messages of each service's queues, for ``status``."""

from __future__ import annotations

import time
from pathlib import Path

from runner.admin.queue_counts import look
from runner.config.project import load_project
from runner.errors import RunnerError

#: Seconds for the broker to answer.
TIMEOUT = 1.0


def ready_messages(folder: Path) -> dict[str, int | None]:
    """Return the ready messages of each service that consumes queues; None for a service whose queues do not answer.

    An unusable configuration gives an empty result: the services run by an earlier one.
    """
    try:
        project = load_project(folder)
    except RunnerError:
        return {}
    services = {name: one.consumes for name, one in project.config.services.items() if one.consumes}
    names = list(dict.fromkeys(queue for consumes in services.values() for queue in consumes))
    deadline, unknown = time.monotonic() + TIMEOUT, dict[str, str]()
    counts = {}
    for url in project.config.broker.url if names else ():
        try:
            counts = look([url], names, unknown, max(0.05, deadline - time.monotonic()))[1]
            break
        except RunnerError:
            continue
    held = {name: found.messages for name, found in counts.items() if found is not None}
    return {
        service: sum(held[queue] for queue in consumes) if held.keys() >= set(consumes) else None
        for service, consumes in services.items()
    }
