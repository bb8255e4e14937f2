"""Record every event and every handling attempt in the event history."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from runner import Contract, Message, MessageStore, hookimpl, record_message


class Options(BaseModel):
    """The options of the ``audit`` plugin. ``store`` in config.yaml selects the database."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempts: bool = Field(True, description="Record not only events, but also each attempt to handle a message.")


@hookimpl
def contract(options: Options) -> Contract:
    """Declare that the service records every event and, if configured, every attempt."""
    return Contract(records=("events", "attempts") if options.attempts else ("events",))


@hookimpl
def handle(message: Message, store: MessageStore) -> None:
    """Record one event or one attempt report."""
    record_message(message, store)
