"""A worker's specification, which the supervisor writes to the worker's standard input as JSON.

The supervisor has already read and checked the files. A restarted worker therefore reads the specification instead of
files that a user may be editing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from runner.topology.model import RetryDelays


@dataclass(frozen=True)
class WorkerSpec:
    """The settings that all workers of a service get."""

    service: str
    plugin: str
    #: The project's folder, which contains the plugin.
    folder: str
    urls: tuple[str, ...]
    consumes: tuple[str, ...]
    #: The exchange and the routing key template for each event type.
    publishes: Mapping[str, tuple[str, str]]
    #: The retry delays and the dead-letter queue for each queue.
    retry_delays: Mapping[str, RetryDelays]
    prefetch: int
    concurrency: int
    options: Mapping[str, Any]
    #: The address of the database. A worker opens the database only if the service needs it.
    store: str
    #: Seconds for which the inbox stores a message id. None for a service without an inbox.
    inbox: float | None
    #: The queue for attempt reports. Empty if attempts are not recorded.
    trace: str
    #: The number of crashes after which a message is dead-lettered.
    max_crashes: int
    #: The address of the event history's database, for a service with its own loop. Empty if no service records events.
    history: str
    #: The status of an order after each event type, for a service that records the event history. None for all other
    #: services.
    statuses: Mapping[str, str] | None
    #: Seconds that a handler may spend on one message, or 0 for no limit.
    handler_timeout: float
    #: The time limits for becoming ready after a start and for stopping, in seconds.
    start_timeout: float
    stop_timeout: float
    #: True if fault injection is allowed.
    faults: bool
    #: ``text`` or ``json``.
    log_format: str
    #: ``debug``, ``info``, ``warning`` or ``error``.
    log_level: str
    #: The queue for attempt reports. Deliveries from this queue are logged only at debug level.
    quiet_queue: str
    #: The shortest possible ``consumer_timeout`` of each queue, in seconds. Queues with an unknown timeout are omitted.
    consumer_timeouts: Mapping[str, float]
    #: The previous name of each renamed queue, keyed by its current name, for a service with an inbox.
    formerly: Mapping[str, str]

    def to_json(self) -> bytes:
        """Return the specification as JSON.

        The JSON contains passwords, so never pass it as an argument or an environment variable.
        """
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, raw: bytes) -> WorkerSpec:
        """Return the specification that ``to_json`` converted to JSON."""
        data = json.loads(raw)
        data["retry_delays"] = {
            queue: RetryDelays(tuple((delay, name) for delay, name in delays["steps"]), delays["dead_letter"])
            for queue, delays in data["retry_delays"].items()
        }
        data["publishes"] = {kind: (exchange, template) for kind, (exchange, template) in data["publishes"].items()}
        data |= {name: tuple(data[name]) for name in ("urls", "consumes")}
        return cls(**data)
