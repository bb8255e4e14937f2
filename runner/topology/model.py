"""The exact exchanges, queues, bindings and policies that a broker is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.config.argument import QUEUE_TYPE
from runner.config.version import CLASSIC

#: ``queue`` or ``exchange``, and the name.
Node = tuple[str, str]


@dataclass(frozen=True)
class Exchange:
    """One exchange, as AMQP's ``exchange.declare`` takes it."""

    name: str
    type: str
    durable: bool = True
    internal: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    auto_delete: bool = False


@dataclass(frozen=True)
class Queue:
    """One queue, as AMQP's ``queue.declare`` takes it."""

    name: str
    durable: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)
    auto_delete: bool = False

    @property
    def type(self) -> str:
        """Its type, which is an argument to RabbitMQ."""
        return str(self.arguments.get(QUEUE_TYPE, CLASSIC))


@dataclass(frozen=True)
class Binding:
    """One binding, as AMQP's ``queue.bind`` and RabbitMQ's ``exchange.bind`` take it."""

    source: str
    destination: str
    #: ``queue`` or ``exchange``.
    destination_type: str = "queue"
    routing_key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str, tuple[tuple[str, str], ...]]:
        """What makes it another binding than any other: all of it."""
        arguments = tuple(sorted((name, _typed(value)) for name, value in self.arguments.items()))
        return (self.source, self.destination_type, self.destination, self.routing_key, arguments)


def _typed(value: object) -> str:
    # True and 1 are equal to Python and not to the broker.
    return f"{type(value).__name__} {value}"


@dataclass(frozen=True)
class Policy:
    """One policy, as RabbitMQ's HTTP API takes it."""

    name: str
    #: A regular expression that is searched for in names.
    pattern: str
    #: ``queues``, ``exchanges``, ``all``, ``classic_queues``, ``quorum_queues`` or ``streams``.
    apply_to: str
    definition: Mapping[str, Any]
    priority: int = 0


@dataclass(frozen=True)
class Ladder:
    """Where a failed message of one queue goes: a wait queue for each retry, then the dead-letter queue."""

    #: Pairs of delay in seconds and the wait queue's name, in the order of the retries.
    steps: tuple[tuple[float, str], ...]
    dead_letter: str


@dataclass(frozen=True)
class Objects:
    """All that topology.yaml comes to, in an order in which it can be declared."""

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()
    policies: tuple[Policy, ...] = ()
    #: The retry delays and the dead-letter queue of each queue with a dead-letter queue of ours.
    ladders: Mapping[str, Ladder] = field(default_factory=dict)
    #: The retry queues and dead-letter queues that topology.yaml does not name under ``queues``.
    generated: frozenset[str] = frozenset()
    #: The former name of each queue that topology.yaml renames.
    formerly: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, things: Iterable[Exchange | Queue | Binding | Policy]) -> Objects:
        """Return the exchanges, queues and bindings among some objects, as they are declared together."""
        found = tuple(things)
        return cls(
            tuple(one for one in found if isinstance(one, Exchange)),
            tuple(one for one in found if isinstance(one, Queue)),
            tuple(one for one in found if isinstance(one, Binding)),
        )
