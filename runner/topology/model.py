"""The exact exchanges, queues and bindings that a broker is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Exchange:
    """One exchange, as AMQP's ``exchange.declare`` takes it."""

    name: str
    type: str
    durable: bool = True
    internal: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Queue:
    """One queue, as AMQP's ``queue.declare`` takes it."""

    name: str
    durable: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Binding:
    """One binding, as AMQP's ``queue.bind`` and RabbitMQ's ``exchange.bind`` take it."""

    source: str
    destination: str
    #: ``queue`` or ``exchange``.
    destination_type: str = "queue"
    routing_key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ladder:
    """Where a failed message of one queue goes: a wait queue for each retry, then the dead-letter queue."""

    #: Pairs of delay in seconds and the wait queue's name, in the order of the retries.
    steps: tuple[tuple[float, str], ...]
    dead_letter: str


@dataclass(frozen=True)
class Objects:
    """All that topology.yaml comes to, in an order in which it can be declared."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]
    #: The ladder of each queue that a service consumes.
    ladders: Mapping[str, Ladder] = field(default_factory=dict)
