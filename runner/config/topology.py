"""topology.yaml: exchanges, queues and bindings as a person writes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictStr, WithJsonSchema

from runner.config.document import Document
from runner.config.fault import Path, unknown
from runner.config.value import Argument, Duration, ExchangeType, QueueType, check_name, check_short

#: Exchanges that every vhost has (RabbitMQ: "AMQP 0-9-1 Model Explained").
PREDEFINED_EXCHANGES = frozenset({"amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.topic"})

Short = Annotated[StrictStr, AfterValidator(check_short)]
Name = Annotated[StrictStr, AfterValidator(check_name), WithJsonSchema({"type": "string", "minLength": 1})]


class Part(BaseModel):
    """Frozen, and a key it does not know is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Defaults(Part):
    """What holds for every exchange and queue that does not say otherwise."""

    durable: StrictBool = Field(True, description="Exchanges and queues survive a restart of the broker.")
    queue_type: QueueType = Field("quorum", description="The type of queues that name none.")


class Exchange(Part):
    """An exchange: where services publish."""

    type: ExchangeType = Field("topic", description="How it chooses the queues for a message.")
    durable: StrictBool | None = Field(None, description="Survives a restart of the broker.")
    internal: StrictBool = Field(False, description="Takes messages from other exchanges only.")
    alternate_exchange: StrictStr | None = Field(None, description="Gets what no queue is bound for.")
    arguments: dict[str, Argument] = Field({}, description="RabbitMQ's own optional arguments.")


class Queue(Part):
    """A queue: what services consume from."""

    type: QueueType | None = Field(None, description="The queue type; defaults.queue_type where not given.")
    durable: StrictBool | None = Field(None, description="Survives a restart of the broker.")
    bind: dict[str, list[Short]] = Field({}, description="Exchange: the routing keys bound to this queue.")
    retry: list[Duration] = Field([], description="The delays before each retry of a failed message.")
    dead_letter: Name | None = Field(
        None, description="Where failed messages are parked; NAME.dlq for a consumed queue."
    )
    arguments: dict[str, Argument] = Field({}, description="RabbitMQ's own optional arguments.")


class Binding(Part):
    """One binding in RabbitMQ's own words, for what ``bind`` does not say."""

    source: StrictStr = Field(description="The exchange that messages come from.")
    destination: StrictStr = Field(description="The queue or exchange that they go to.")
    destination_type: Literal["queue", "exchange"] = Field("queue", description="queue or exchange.")
    routing_key: Short = Field("", description="The routing key, or pattern on a topic exchange.")
    arguments: dict[str, Argument] = Field({}, description="For a headers exchange: x-match and the headers.")


class Topology(Part):
    """The whole of topology.yaml."""

    defaults: Defaults = Field(Defaults(), description="What holds where nothing else is said.")
    exchanges: dict[str, Exchange] = Field({}, description="The exchanges, by name.")
    queues: dict[str, Queue] = Field({}, description="The queues, by name.")
    bindings: list[Binding] = Field([], description="Bindings in RabbitMQ's own words.")

    def dead_letter_of(self, queue: str) -> str:
        """The name of the queue in which the failed messages of ``queue`` are parked."""
        return self.queues[queue].dead_letter or f"{queue}.dlq"


def exchange_names(document: Document) -> set[str]:
    """The exchanges that may be referred to: those of the file, faulty ones included, and the broker's own."""
    return {*PREDEFINED_EXCHANGES, *document.keys_of("exchanges")}


def check_references(topology: Topology, document: Document) -> None:
    """Note each reference to an exchange or queue that topology.yaml does not define."""
    exchanges = exchange_names(document)
    queues = document.keys_of("queues")
    for section in ("exchanges", "queues"):
        for name in document.keys_of(section):
            _check_declared_name(name, (section, name), document)
    for name, exchange in topology.exchanges.items():
        if exchange.alternate_exchange is not None and exchange.alternate_exchange not in exchanges:
            path = ("exchanges", name, "alternate_exchange")
            document.fault(path, unknown("exchange", exchange.alternate_exchange, exchanges, document.shown(path)))
    for name, queue in topology.queues.items():
        for source in queue.bind:
            if source not in exchanges:
                document.fault(("queues", name, "bind", source), unknown("exchange", source, exchanges))
        if queue.dead_letter == name:
            path = ("queues", name, "dead_letter")
            document.fault(path, f"the queue itself, {document.shown(path)}; allowed: another queue's name")
        _check_retry(name, queue, document)
    for index, binding in enumerate(topology.bindings):
        if binding.source not in exchanges:
            place: Path = ("bindings", index, "source")
            document.fault(place, unknown("exchange", binding.source, exchanges, document.shown(place)))
        kind = binding.destination_type
        allowed = queues if kind == "queue" else exchanges
        if binding.destination not in allowed:
            place = ("bindings", index, "destination")
            document.fault(place, unknown(kind, binding.destination, allowed, document.shown(place)))


def _check_declared_name(name: str, path: tuple[str, str], document: Document) -> None:
    try:
        check_name(name)
    except ValueError as error:
        document.fault(path, str(error))
    if name.startswith("amq."):
        document.fault(path, f"reserved by the broker, {name!r}; allowed: names that do not start with 'amq.'")


def _check_retry(name: str, queue: Queue, document: Document) -> None:
    for index, delay in enumerate(queue.retry):
        path = ("queues", name, "retry", index)
        # The broker counts whole milliseconds up to an unsigned 32-bit number (RabbitMQ: "Time-To-Live").
        if not 0.001 <= delay <= 4_294_967:
            document.fault(path, f"out of range, {document.shown(path)}; allowed: 1ms to 49d")
        elif delay in queue.retry[:index]:
            document.fault(path, f"a delay given twice, {document.shown(path)}; allowed: each delay once")
