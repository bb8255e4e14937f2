"""Compile topology.yaml: ``bind``, ``retry`` and ``dead_letter`` to plain exchanges, queues and bindings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from runner.config.topology import Queue as QueueSettings
from runner.config.topology import Topology
from runner.config.value import format_duration
from runner.topology.model import Binding, Exchange, Ladder, Objects, Queue

#: How often a quorum queue may deliver one message again before it parks it without a handler's word. It counts
#: deliveries that ended without an answer, by a worker's death above all. Below the failures after which a slot is
#: FATAL, so that a message that kills its workers is parked before they are given up. RabbitMQ 4's own default is
#: 20, and it then drops the message; older ones have none.
DELIVERY_LIMIT = 3


def compile_topology(topology: Topology, consumed: Collection[str] = ()) -> Objects:
    """The broker objects of ``topology``.

    Every queue in ``consumed``, those that a service reads, gets a dead-letter queue, so that a message that
    cannot be handled always has a place to go; so does every queue that names one or has retries.
    """
    queues: dict[str, Queue] = {}
    extra: dict[str, Queue] = {}
    ladders: dict[str, Ladder] = {}
    for name, settings in topology.queues.items():
        kind = settings.type or topology.defaults.queue_type
        durable = topology.defaults.durable if settings.durable is None else settings.durable
        arguments: dict[str, Any] = {"x-queue-type": kind}
        if name in consumed or settings.retry or settings.dead_letter:
            ladder = _ladder(name, topology)
            ladders[name] = ladder
            arguments |= _parking(kind, ladder.dead_letter)
            # Classic, because a limited quorum queue would drop a parked message after some looks at it.
            extra.setdefault(ladder.dead_letter, Queue(ladder.dead_letter, True, {"x-queue-type": "classic"}))
            for delay, wait_queue in ladder.steps:
                extra[wait_queue] = _wait_queue(wait_queue, name, kind, delay, durable)
        queues[name] = Queue(name, durable, arguments | settings.arguments)
    for name in sorted(set(consumed) - queues.keys()):
        # A service that handles what others could not; what it cannot handle either is parked behind it.
        ladders[name] = Ladder((), f"{name}.dlq")
        extra[f"{name}.dlq"] = Queue(f"{name}.dlq", True, {"x-queue-type": "classic"})
    return Objects(
        exchanges=tuple(_exchanges(topology)),
        queues=(*queues.values(), *(queue for name, queue in extra.items() if name not in queues)),
        bindings=tuple(_bindings(topology)),
        ladders=ladders,
    )


def _exchanges(topology: Topology) -> list[Exchange]:
    result = []
    for name, settings in topology.exchanges.items():
        arguments = dict(settings.arguments)
        if settings.alternate_exchange is not None:
            arguments["alternate-exchange"] = settings.alternate_exchange
        durable = topology.defaults.durable if settings.durable is None else settings.durable
        result.append(Exchange(name, settings.type, durable, settings.internal, arguments))
    return result


def _bindings(topology: Topology) -> list[Binding]:
    shorthand = [
        Binding(source, name, "queue", key)
        for name, settings in topology.queues.items()
        for source, keys in settings.bind.items()
        for key in keys
    ]
    explicit = [
        Binding(one.source, one.destination, one.destination_type, one.routing_key, one.arguments)
        for one in topology.bindings
    ]
    return [*shorthand, *explicit]


def _ladder(name: str, topology: Topology) -> Ladder:
    settings: QueueSettings = topology.queues[name]
    steps = tuple((delay, f"{name}.retry.{format_duration(delay)}") for delay in settings.retry)
    return Ladder(steps, topology.dead_letter_of(name))


def _parking(kind: str, dead_letter: str) -> dict[str, Any]:
    """Arguments that let the broker itself park a message: straight to the dead-letter queue.

    Never to a wait queue, which leads back: RabbitMQ drops or holds a message that goes round such a cycle.
    """
    arguments: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead_letter}
    if kind == "quorum":
        # At-least-once needs reject-publish (RabbitMQ: "Quorum Queues", dead letter strategy).
        arguments |= {
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
    return arguments


def _wait_queue(name: str, origin: str, kind: str, delay: float, durable: bool) -> Queue:
    """A queue in which a message waits ``delay`` seconds and then returns to ``origin`` alone.

    One queue for each delay, because a message only expires at the head of its queue.
    """
    arguments: dict[str, Any] = {
        "x-queue-type": kind,
        "x-message-ttl": round(delay * 1000),
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": origin,
    }
    if kind == "quorum":
        arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return Queue(name, durable, arguments)
