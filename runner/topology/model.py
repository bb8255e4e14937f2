"""The exchanges, queues, bindings and policies to declare on a broker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.config.argument import QUEUE_TYPE
from runner.config.version import CLASSIC

#: The kind (``queue`` or ``exchange``) and the name of an object.
Node = tuple[str, str]


@dataclass(frozen=True)
class Exchange:
    """One exchange, with the fields of AMQP's ``exchange.declare``."""

    name: str
    type: str
    durable: bool = True
    internal: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    auto_delete: bool = False


@dataclass(frozen=True)
class Queue:
    """One queue, with the fields of AMQP's ``queue.declare``."""

    name: str
    durable: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)
    auto_delete: bool = False

    @property
    def type(self) -> str:
        """The queue type, which is an argument in AMQP."""
        return str(self.arguments.get(QUEUE_TYPE, CLASSIC))


@dataclass(frozen=True)
class Binding:
    """One binding, with the fields of AMQP's ``queue.bind`` and RabbitMQ's ``exchange.bind``."""

    source: str
    destination: str
    #: The kind of the destination, ``queue`` or ``exchange``.
    destination_type: str = "queue"
    routing_key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str, tuple[tuple[str, str], ...]]:
        """The identity of the binding, which consists of all its fields."""
        arguments = tuple(sorted((name, _typed(value)) for name, value in self.arguments.items()))
        return (self.source, self.destination_type, self.destination, self.routing_key, arguments)


def _typed(value: object) -> str:
    # True and 1 are equal in Python, but not in RabbitMQ.
    return f"{type(value).__name__} {value}"


@dataclass(frozen=True)
class Policy:
    """One policy, with the fields of RabbitMQ's HTTP API."""

    name: str
    #: A regular expression, which may match any part of a name.
    pattern: str
    #: The type of the affected objects: ``queues``, ``exchanges``, ``all``, ``classic_queues``, ``quorum_queues`` or
    #: ``streams``.
    apply_to: str
    definition: Mapping[str, Any]
    priority: int = 0


@dataclass(frozen=True)
class RetryDelays:
    """The retry delays of one queue, with a retry queue for each delay, and the queue's dead-letter queue."""

    #: Pairs of a delay in seconds and the name of its retry queue, in the order of the retries.
    steps: tuple[tuple[float, str], ...]
    dead_letter: str


@dataclass(frozen=True)
class Objects:
    """The broker objects that topology.yaml describes, in declaration order."""

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()
    policies: tuple[Policy, ...] = ()
    #: The retry delays and the dead-letter queue of each queue whose dead letters FastCommerce routes.
    retry_delays: Mapping[str, RetryDelays] = field(default_factory=dict)
    #: The retry queues and dead-letter queues that are not listed under ``queues`` in topology.yaml.
    generated: frozenset[str] = frozenset()
    #: The previous name of each queue that topology.yaml renames.
    formerly: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, things: Iterable[Exchange | Queue | Binding | Policy]) -> Objects:
        """Return the given exchanges, queues and bindings. Policies are left out."""
        found = tuple(things)
        return cls(
            tuple(one for one in found if isinstance(one, Exchange)),
            tuple(one for one in found if isinstance(one, Queue)),
            tuple(one for one in found if isinstance(one, Binding)),
        )
