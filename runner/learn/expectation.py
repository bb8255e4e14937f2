"""The expectations of a check: what the system must show after the steps."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from runner.config.value import Duration
from runner.learn.quantity import AnyQuantity, Quantity
from runner.learn.vocabulary import Vocabulary


class Counted(BaseModel):
    """The expected number of e-mails or rows for one event type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str | None = Field(
        None, description="The event type, or its first words followed by .*; by default, all types."
    )
    count: AnyQuantity = Field(description="The number.")


class OrderState(BaseModel):
    """The number of orders with a status."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: str = Field(description="accepted (no outcome yet), paid, declined or dead_lettered.")
    count: AnyQuantity | None = Field(
        None, description="The number of orders with this status; by default, every order must have it."
    )


class Books(BaseModel):
    """The account of the accepted orders."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lost: AnyQuantity = Field(default_factory=lambda: Quantity(0), description="Accepted orders without an outcome.")
    twice: AnyQuantity | None = Field(None, description="Orders that were charged more than once.")


class Delay(BaseModel):
    """The time from the response to the e-mail about the payment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max: Duration = Field(description="The maximum time for 95 % of the orders.")
    min: Duration = Field(0.0, description="The minimum time for every order.")


class Way(BaseModel):
    """The queues that a message reaches. No broker is needed to find these queues."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exchange: str = Field(description="The exchange.")
    key: str = Field(description="The routing key.")
    reaches: tuple[str, ...] = Field((), description="Queues that must get the message.")
    misses: tuple[str, ...] = Field((), description="Queues that must not get the message.")


class LogLines(BaseModel):
    """Lines in the log."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    matches: str = Field(description="A regular expression for the message.")
    service: str | None = Field(None, description="Count only lines of this service.")
    count: AnyQuantity = Field(description="The number of lines.")


class Expectation(Vocabulary):
    """One expectation."""

    SUBJECTS: ClassVar = {
        "queue": ("ready", "keys"), "emails": (), "charges": (), "order": (), "attempts": ("by",), "handled_by": (),
        "response": ("count", "within"), "instances": (), "rows": (), "event": ("count",), "ledger": (),
        "service": ("state",), "p95": (), "changed": (), "route": (), "log": (), "config_error": (), "finding": (),
        "prediction": (),
    }  # fmt: skip

    queue: str | None = Field(None, description="A queue.")
    ready: AnyQuantity | None = Field(None, description="The number of ready messages in the queue.")
    keys: tuple[str, ...] | None = Field(
        None, description="The routing keys of the messages in the queue, in any order."
    )
    emails: Counted | None = Field(None, description="The number of e-mails for an event type.")
    charges: AnyQuantity | None = Field(None, description="The approved charges at the card gateway.")
    order: OrderState | None = Field(None, description="The status of orders.")
    attempts: AnyQuantity | None = Field(None, description="The attempts for each accepted order.")
    by: str = Field("payment", description="The service that makes the attempts.")
    handled_by: dict[str, AnyQuantity] | None = Field(
        None, description="The number of handled messages by service, or by process, such as payment.2."
    )
    response: int | tuple[int, ...] | None = Field(
        None, description="The HTTP status of every post, or of each group of posts in turn."
    )
    count: AnyQuantity | None = Field(
        None, description="The number of responses with this status, or of events of this type."
    )
    within: Duration | None = Field(None, description="The maximum time of each response.")
    instances: dict[str, AnyQuantity] | None = Field(None, description="The number of running processes by service.")
    rows: Counted | None = Field(None, description="The number of rows in the event history.")
    event: str | None = Field(None, description="The type of a published event.")
    ledger: Books | None = Field(None, description="The account of the accepted orders.")
    service: str | None = Field(None, description="A service.")
    state: str | None = Field(None, description="The state of all processes of the service, such as RUNNING or FATAL.")
    p95: Delay | None = Field(None, description="The time until the e-mail about the payment.")
    changed: AnyQuantity | None = Field(None, description="The number of lines that differ from the starter.")
    route: Way | None = Field(None, description="The queues that a message reaches.")
    log: LogLines | None = Field(None, description="Lines in the log.")
    config_error: str | None = Field(None, description="A regular expression for a configuration error.")
    finding: str | None = Field(None, description="The code of a lint finding.")
    prediction: str | None = Field(None, description="The learner's prediction.")

    @property
    def needs_no_system(self) -> bool:
        """True if the result depends only on the files."""
        return self.subject in ("changed", "route", "config_error", "finding", "prediction")
