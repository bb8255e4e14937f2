"""The models of topology.yaml: exchanges, queues, bindings and policies."""

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

#: The predefined exchanges of every vhost (RabbitMQ: "AMQP 0-9-1 Model Explained").
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
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Defaults(Part):
    """The defaults of exchanges and queues."""

    durable: StrictBool = Field(True, description="Exchanges and queues survive a broker restart.")
    queue_type: QueueType = Field("quorum", description="The type of queues that set no type.")


class ExchangeSettings(Part):
    """An exchange that services publish to."""

    type: ExchangeType = Field("topic", description="The exchange type, which determines the routing.")
    durable: StrictBool | None = Field(None, description="Survives a broker restart. The default is defaults.durable.")
    auto_delete: StrictBool = Field(
        False, description="RabbitMQ deletes the exchange when the last binding is removed."
    )
    internal: StrictBool = Field(False, description="The exchange accepts messages only from other exchanges.")
    alternate_exchange: StrictStr | None = Field(None, description="The exchange for messages that match no binding.")
    arguments: dict[str, Argument] = Field(
        {}, description="RabbitMQ's optional arguments, which cannot be changed later."
    )


class QueueSettings(Part):
    """A queue that services consume."""

    formerly: Name | None = Field(
        None, description="The former name of the queue. Messages and bindings are moved from the queue with this name."
    )
    type: QueueType | None = Field(None, description="The queue type. The default is defaults.queue_type.")
    durable: StrictBool | None = Field(None, description="Survives a broker restart. The default is defaults.durable.")
    auto_delete: StrictBool = Field(
        False, description="RabbitMQ deletes the queue when the last consumer unsubscribes."
    )
    bind: dict[str, list[Short]] = Field(
        {}, description="For each exchange, the routing keys of the bindings to this queue."
    )
    retry: list[Duration] = Field([], description="The delays before the retries of a failed message.")
    dead_letter: Name | None = Field(None, description="The name of the dead-letter queue. The default is NAME.dlq.")
    policy: dict[str, Argument] = Field(
        {}, description="Policy keys for this queue, such as max-length. Policy keys can be changed later."
    )
    arguments: dict[str, Argument] = Field(
        {}, description="RabbitMQ's optional arguments, which cannot be changed later."
    )


class BindingSettings(Part):
    """A binding in RabbitMQ's notation, such as a binding with arguments or to an exchange."""

    source: StrictStr = Field(description="The exchange that routes the messages.")
    destination: StrictStr = Field(description="The queue or exchange that gets the messages.")
    destination_type: Literal["queue", "exchange"] = Field("queue", description="The type of the destination.")
    routing_key: Short = Field("", description="The routing key, or a pattern for a topic exchange.")
    arguments: dict[str, BindingArgument] = Field({}, description="For a headers exchange: x-match and the headers.")


class PolicySettings(Part):
    """A RabbitMQ policy, with settings for all exchanges or queues whose names match."""

    pattern: StrictStr = Field(description="The regular expression for the names.")
    apply_to: AppliesTo = Field("queues", description="The kind of objects to which the policy applies.")
    priority: StrictInt = Field(
        0, ge=0, le=1000, description="Of several matching policies, only the policy with the highest priority applies."
    )
    definition: dict[str, Any] = Field(description="Policy keys and their values, such as max-length: 1000.")


class Retire(Part):
    """The objects that ``apply`` deletes from the broker."""

    queues: list[Name] = Field([], description="Queues to delete when they are empty.")
    exchanges: list[Name] = Field([], description="Exchanges to delete.")
    policies: list[Name] = Field([], description="Policies to delete.")


class Lint(Part):
    """Settings of ``lint``."""

    ignore: dict[str, list[StrictStr]] = Field(
        {}, description="The findings to ignore. For each code, the names of objects ('*' for all)."
    )


class Topology(Part):
    """The contents of topology.yaml."""

    defaults: Defaults = Field(Defaults(), description="The defaults of exchanges and queues.")
    exchanges: dict[str, ExchangeSettings] = Field({}, description="The exchanges, by name.")
    queues: dict[str, QueueSettings] = Field({}, description="The queues, by name.")
    bindings: list[BindingSettings] = Field([], description="Bindings in RabbitMQ's notation.")
    policies: dict[str, PolicySettings] = Field({}, description="The policies, by name.")
    retire: Retire = Field(Retire(), description="Objects to delete from the broker.")
    lint: Lint = Field(Lint(), description="Lint findings to ignore.")

    @property
    def renamed(self) -> dict[str, str]:
        """The current names of renamed queues, by former name."""
        return {one.formerly: name for name, one in self.queues.items() if one.formerly is not None}

    def dead_letter_of(self, queue: str) -> str:
        """Return the name of the dead-letter queue of ``queue``."""
        return self.queues[queue].dead_letter or f"{queue}.dlq"

    def is_durable(self, queue: str) -> bool:
        """Return True if a queue survives a broker restart."""
        said = self.queues[queue].durable
        return self.defaults.durable if said is None else said

    def durable_path(self, queue: str) -> Path:
        """Return the path of the ``durable`` setting that applies to a queue, in ``queues`` or in ``defaults``."""
        is_inherited = self.queues[queue].durable is None and "durable" in self.defaults.model_fields_set
        return ("defaults", "durable") if is_inherited else ("queues", queue, "durable")

    def type_of(self, queue: str) -> str:
        """Return the type of a queue."""
        return self.queues[queue].type or self.defaults.queue_type
