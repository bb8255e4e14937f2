"""Record every event that comes, and the report of each attempt of each message, in the event history."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from runner import Contract, Message, MessageStore, hookimpl, record_message


class Options(BaseModel):
    """The options of the plugin audit; ``store`` in config.yaml names the database."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempts: bool = Field(True, description="Record each attempt of each message too, not only events.")


@hookimpl
def contract(options: Options) -> Contract:
    """Declare that every event is recorded, and every attempt if the options say so."""
    return Contract(records=("events", "attempts") if options.attempts else ("events",))


@hookimpl
def handle(message: Message, store: MessageStore) -> None:
    """Record one event or report."""
    record_message(message, store)
