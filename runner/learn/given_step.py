"""The steps of a check: what the check does to the system before it examines the result."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from runner.config.value import Duration, format_duration
from runner.learn.evaluation import compare
from runner.learn.expectation import Expectation
from runner.learn.files_seen import FilesSeen
from runner.learn.observation import Observation
from runner.learn.quantity import AnyQuantity
from runner.learn.vocabulary import Vocabulary


class GatewayBehavior(BaseModel):
    """The behavior of the simulated card gateway, as options of ``payment``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slow: Duration | None = Field(None, description="The time that the gateway takes to answer.")
    times_out: float | None = Field(None, ge=0, le=1, description="The share of attempts without an answer.")
    declines: float | None = Field(None, ge=0, le=1, description="The share of declined orders.")

    @property
    def options(self) -> dict[str, Any]:
        """The options of ``payment`` that cause this behavior."""
        found = {
            "latency": None if self.slow is None else format_duration(self.slow),
            "timeout_rate": self.times_out,
            "failure_rate": self.declines,
        }
        return {name: value for name, value in found.items() if value is not None}


#: The behaviors that have a name.
GATEWAYS: dict[str, dict[str, float]] = {
    "answers": {"times_out": 0, "declines": 0},
    "times_out": {"times_out": 1, "declines": 0},
    "declines": {"times_out": 0, "declines": 1},
}


def _named_gateway(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in GATEWAYS:
        raise ValueError(f"not a behavior; allowed: {', '.join(GATEWAYS)}, or a mapping")
    return GATEWAYS[value]


class Fault(Vocabulary):
    """A fault that ``fastcommerce fault`` can inject."""

    SUBJECTS: ClassVar = {
        "poison": ("count", "kill"),
        "duplicate": ("count",),
        "disconnect": ("service",),
        "broker_restart": (),
    }

    poison: str | None = Field(None, description="A queue that gets poison messages.")
    duplicate: str | None = Field(None, description="A queue whose next messages are published twice.")
    disconnect: Duration | None = Field(None, description="The time for which the workers lose the broker.")
    broker_restart: Duration | None = Field(None, description="Kill the broker, and start it again after this time.")
    count: int = Field(1, ge=1, le=1000, description="The number of messages.")
    kill: bool = Field(False, description="The poison message kills each worker that handles it.")
    service: str | None = Field(None, description="Affect only the workers of this service.")


class Moment(Vocabulary):
    """The moment of a kill."""

    SUBJECTS: ClassVar = {"unacked": (), "confirmed": ()}

    unacked: AnyQuantity | None = Field(None, description="The number of unacked messages of the process.")
    confirmed: Literal[True] | None = Field(
        None, description="The events in the outbox of the service are confirmed, but not yet marked as confirmed."
    )

    def words(self) -> str:
        """Describe the moment, for example as ``with more than 0 messages unacked``."""
        if self.confirmed:
            return "after its events are confirmed, but before the outbox marks them as confirmed"
        return f"with {self.unacked} messages unacked"


class Publication(BaseModel):
    """Messages that a client publishes directly to an exchange, each with the body of an order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exchange: str = Field(description="The exchange.")
    keys: tuple[str, ...] = Field(min_length=1, description="The routing key of each message.")


class GivenStep(Vocabulary):
    """One step of a check."""

    SUBJECTS: ClassVar = {
        "orders": (
            "amount", "currency", "region", "rate", "same_key", "followed_by", "background",
        ),
        "gateway": (), "save": (), "publish": (), "kill": ("when",), "stop": (), "start": (), "scale": (),
        "replay": (), "fault": ("background",), "wait": ("within",),
    }  # fmt: skip

    orders: int | None = Field(None, ge=1, le=1000, description="Post this number of orders.")
    amount: float = Field(149.99, gt=0, description="The amount of each order.")
    currency: str = Field("USD", description="The currency of each order.")
    region: str | None = Field(None, description="The region of each order.")
    rate: float | None = Field(
        None, gt=0, description="The number of orders per second; by default, orders are posted as fast as possible."
    )
    same_key: bool = Field(False, description="Post the same order each time, with the same Idempotency-Key.")
    followed_by: Publication | None = Field(
        None, description="Publish these messages about each accepted order, directly after its response."
    )
    gateway: Annotated[GatewayBehavior, BeforeValidator(_named_gateway)] | None = Field(
        None, description="Change the simulated card gateway: answers, times_out, declines, or a mapping."
    )
    save: Literal[True] | None = Field(
        None, description="Apply the learner's files now. Earlier steps run with the files of the starter."
    )
    publish: Publication | None = Field(None, description="Publish messages directly to an exchange.")
    kill: str | None = Field(None, description="Kill one process with SIGKILL, such as payment.1.")
    when: Moment | None = Field(None, description="Wait for this moment before the kill.")
    stop: str | None = Field(None, description="Stop a service.")
    start: str | None = Field(None, description="Start a stopped service.")
    scale: dict[str, int] | None = Field(None, description="Set the number of instances of a service.")
    replay: str | None = Field(None, description="Replay the dead letters of a queue, or all dead letters.")
    fault: Fault | None = Field(None, description="Inject a fault.")
    wait: tuple[Expectation, ...] | None = Field(None, description="Wait until these expectations are met.")
    within: Duration = Field(5.0, description="The maximum time of a wait.")
    background: bool = Field(False, description="Start the next step without waiting for this step to finish.")

    def words(self) -> str:
        """Describe the step, for example as ``post 3 orders in USD``."""
        return getattr(self, f"_{self.subject}_words")()  # type: ignore[no-any-return]

    def _orders_words(self) -> str:
        if self.same_key:
            return f"post the same order {self.orders} times with the same Idempotency-Key"
        count = "1 order" if self.orders == 1 else f"{self.orders} orders"
        amount = f" of {self.amount:g}" if "amount" in self.model_fields_set else ""
        region = f" from region {self.region}" if self.region else ""
        rate = f", {self.rate:g} per second" if self.rate else ""
        follow = f", each followed by {', '.join(self.followed_by.keys)}" if self.followed_by else ""
        return f"post {count}{amount} in {self.currency}{region}{rate}{follow}"

    def _gateway_words(self) -> str:
        assert self.gateway is not None  # noqa: S101 - for the type checker
        words = []
        if self.gateway.slow is not None:
            words.append(f"needs {format_duration(self.gateway.slow)} for a charge")
        if self.gateway.times_out:
            words.append("does not answer" if self.gateway.times_out == 1 else "sometimes does not answer")
        if self.gateway.declines:
            words.append("declines every order" if self.gateway.declines == 1 else "declines some orders")
        return "the card gateway " + (" and ".join(words) or "answers")

    def _save_words(self) -> str:
        return "apply your files"

    def _publish_words(self) -> str:
        assert self.publish is not None  # noqa: S101 - for the type checker
        return f"publish to {self.publish.exchange} with the keys {', '.join(self.publish.keys)}"

    def _kill_words(self) -> str:
        return f"kill {self.kill}" + (f" {self.when.words()}" if self.when else "")

    def _stop_words(self) -> str:
        return f"stop {self.stop}"

    def _start_words(self) -> str:
        return f"start {self.start}"

    def _scale_words(self) -> str:
        return "scale " + ", ".join(f"{name} to {count}" for name, count in (self.scale or {}).items())

    def _replay_words(self) -> str:
        return "replay all dead letters" if self.replay == "all" else f"replay the dead letters of {self.replay}"

    def _wait_words(self) -> str:
        expected = [compare(one, Observation(), FilesSeen()).expected for one in self.wait or ()]
        return f"wait for {', '.join(expected)}"

    def _fault_words(self) -> str:
        fault = self.fault
        assert fault is not None  # noqa: S101 - for the type checker
        if fault.poison is not None:
            count = "a" if fault.count == 1 else str(fault.count)
            kind = "crashing" if fault.kill else "poison"
            return f"publish {count} {kind} message{'' if fault.count == 1 else 's'} to {fault.poison}"
        if fault.duplicate is not None:
            return f"duplicate the next {fault.count} messages of {fault.duplicate}"
        if fault.disconnect is not None:
            return f"disconnect {fault.service or 'all workers'} for {format_duration(fault.disconnect)}"
        return "kill the broker, and start it again"
