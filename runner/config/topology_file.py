"""topology.yaml: exchanges, queues, bindings and policies as a person writes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    WithJsonSchema,
)

from runner.config.error_detail import Path
from runner.config.exchange_type import EXCHANGE_TYPES, PLUGIN_PREFIX, check_type
from runner.config.value import (
    AppliesTo,
    Argument,
    BindingArgument,
    Duration,
    QueueType,
    check_name,
    check_short,
)

#: Exchanges that every vhost has (RabbitMQ: "AMQP 0-9-1 Model Explained").
PREDEFINED_EXCHANGES = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.headers": "headers",
    "amq.match": "headers",
    "amq.topic": "topic",
}

Short = Annotated[StrictStr, AfterValidator(check_short)]
ExchangeType = Annotated[
    Any,
    BeforeValidator(check_type),
    WithJsonSchema({"anyOf": [{"enum": list(EXCHANGE_TYPES)}, {"type": "string", "pattern": f"^{PLUGIN_PREFIX}"}]}),
]
Name = Annotated[StrictStr, AfterValidator(check_name), WithJsonSchema({"type": "string", "minLength": 1})]


class Part(BaseModel):
    """Frozen, and a key it does not know is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Defaults(Part):
    """What holds for every exchange and queue that does not say otherwise."""

    durable: StrictBool = Field(True, description="Exchanges and queues survive a restart of the broker.")
    queue_type: QueueType = Field("quorum", description="The type of queues that name none.")


class ExchangeSettings(Part):
    """An exchange: where services publish."""

    type: ExchangeType = Field("topic", description="How it chooses the queues for a message.")
    durable: StrictBool | None = Field(None, description="Survives a restart of the broker.")
    auto_delete: StrictBool = Field(False, description="Is deleted with the last binding from it.")
    internal: StrictBool = Field(False, description="Takes messages from other exchanges only.")
    alternate_exchange: StrictStr | None = Field(None, description="Gets what no queue is bound for.")
    arguments: dict[str, Argument] = Field({}, description="RabbitMQ's own optional arguments, fixed for good.")


class QueueSettings(Part):
    """A queue: what services consume from."""

    formerly: Name | None = Field(None, description="Its name before: messages and bindings move to the new name.")
    type: QueueType | None = Field(None, description="The queue type; defaults.queue_type where not given.")
    durable: StrictBool | None = Field(None, description="Survives a restart of the broker.")
    auto_delete: StrictBool = Field(False, description="Is deleted with its last consumer.")
    bind: dict[str, list[Short]] = Field({}, description="Exchange: the routing keys bound to this queue.")
    retry: list[Duration] = Field([], description="The delays before each retry of a failed message.")
    dead_letter: Name | None = Field(
        None, description="Where failed messages are parked; NAME.dlq for a consumed queue."
    )
    policy: dict[str, Argument] = Field(
        {}, description="Policy keys of this queue, such as max-length: change them live."
    )
    arguments: dict[str, Argument] = Field({}, description="RabbitMQ's own optional arguments, fixed for good.")


class BindingSettings(Part):
    """One binding in RabbitMQ's own words, for what ``bind`` does not say."""

    source: StrictStr = Field(description="The exchange that messages come from.")
    destination: StrictStr = Field(description="The queue or exchange that they go to.")
    destination_type: Literal["queue", "exchange"] = Field("queue", description="queue or exchange.")
    routing_key: Short = Field("", description="The routing key, or pattern on a topic exchange.")
    arguments: dict[str, BindingArgument] = Field({}, description="For a headers exchange: x-match and the headers.")


class PolicySettings(Part):
    """A policy in RabbitMQ's own words: what holds for all exchanges or queues with a matching name."""

    pattern: StrictStr = Field(description="A regular expression for names.")
    apply_to: AppliesTo = Field("queues", description="What it applies to.")
    priority: StrictInt = Field(0, ge=0, le=1000, description="Of those that match, the highest applies, alone.")
    definition: dict[str, Any] = Field(description="Policy keys and their values, such as max-length: 1000.")


class Retire(Part):
    """What ``apply`` deletes from the broker: nothing else ever is."""

    queues: list[Name] = Field([], description="Queues to delete once they are empty.")
    exchanges: list[Name] = Field([], description="Exchanges to delete.")
    policies: list[Name] = Field([], description="Policies to delete.")


class Lint(Part):
    """Settings of ``lint``."""

    ignore: dict[str, list[StrictStr]] = Field(
        {}, description="Findings to ignore: the code, and the names that the finding is about ('*' for all)."
    )


class Topology(Part):
    """The whole of topology.yaml."""

    defaults: Defaults = Field(Defaults(), description="What holds where nothing else is said.")
    exchanges: dict[str, ExchangeSettings] = Field({}, description="The exchanges, by name.")
    queues: dict[str, QueueSettings] = Field({}, description="The queues, by name.")
    bindings: list[BindingSettings] = Field([], description="Bindings in RabbitMQ's own words.")
    policies: dict[str, PolicySettings] = Field({}, description="Policies in RabbitMQ's own words, by name.")
    retire: Retire = Field(Retire(), description="What is to be deleted from the broker.")
    lint: Lint = Field(Lint(), description="Findings of lint to ignore.")

    @property
    def renamed(self) -> dict[str, str]:
        """The queues that have another name now: the present name by the former one."""
        return {one.formerly: name for name, one in self.queues.items() if one.formerly is not None}

    def dead_letter_of(self, queue: str) -> str:
        """The name of the queue in which the failed messages of ``queue`` are parked."""
        return self.queues[queue].dead_letter or f"{queue}.dlq"

    def is_durable(self, queue: str) -> bool:
        """Return True if a queue of the file survives a restart of the broker."""
        said = self.queues[queue].durable
        return self.defaults.durable if said is None else said

    def durable_path(self, queue: str) -> Path:
        """Return the path of the setting that makes a queue durable or not: its own, or that of ``defaults``."""
        is_inherited = self.queues[queue].durable is None and "durable" in self.defaults.model_fields_set
        return ("defaults", "durable") if is_inherited else ("queues", queue, "durable")

    def type_of(self, queue: str) -> str:
        """The type of a queue of the file."""
        return self.queues[queue].type or self.defaults.queue_type
