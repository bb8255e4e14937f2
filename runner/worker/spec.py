"""All that a worker needs to know, handed to it on standard input as JSON.

The supervisor has checked it; a worker that is restarted never reads a file that is being edited.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from runner.topology.model import Ladder


@dataclass(frozen=True)
class WorkerSpec:
    """One service, as a worker runs it."""

    service: str
    plugin: str
    #: The project's folder, in which the plugin is found.
    folder: str
    urls: tuple[str, ...]
    consumes: tuple[str, ...]
    #: Event type: exchange and routing key template.
    publishes: Mapping[str, tuple[str, str]]
    #: Queue: where its failed messages go.
    ladders: Mapping[str, Ladder]
    prefetch: int
    concurrency: int
    options: Mapping[str, Any]
    #: Where its database is, should it need one; how many seconds a message is remembered, None without an inbox.
    store: str = "sqlite:///var/fastcommerce.db"
    inbox: float | None = None
    #: The queue for the reports of attempts, empty for none; how many workers a message may kill.
    trace: str = ""
    max_crashes: int = 3
    #: The database with the event history, for a service with a loop of its own; empty if no service records events.
    history: str = ""
    #: For a service that records the event history: the status of an order after an event, by the event's type.
    statuses: Mapping[str, str] | None = None
    #: Seconds that a handler may take for one message, 0 for ever; that the service has to be ready, and to stop.
    handler_timeout: float = 0.0
    start_timeout: float = 30.0
    stop_timeout: float = 6.0
    #: Whether it looks for faults that somebody injects on purpose.
    faults: bool = False
    #: ``text`` or ``json``; and ``debug``, ``info``, ``warning`` or ``error``.
    log_format: str = "text"
    log_level: str = "info"
    #: The queue that gets a report of each attempt. Its own deliveries are logged at debug level only.
    quiet_queue: str = ""
    #: Queue: the shortest ``consumer_timeout`` in seconds that it can have; nothing for an unknown one.
    consumer_timeouts: Mapping[str, float] = field(default_factory=dict)
    #: The former name of each renamed queue, for a service with an inbox.
    formerly: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The spec as it travels; it holds the broker's password, so it is never an argument or a variable."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, raw: bytes) -> WorkerSpec:
        """Read what ``to_json`` wrote."""
        data = json.loads(raw)
        data["ladders"] = {
            queue: Ladder(tuple((delay, name) for delay, name in ladder["steps"]), ladder["dead_letter"])
            for queue, ladder in data["ladders"].items()
        }
        data["publishes"] = {kind: (exchange, template) for kind, (exchange, template) in data["publishes"].items()}
        data |= {name: tuple(data[name]) for name in ("urls", "consumes")}
        return cls(**data)
