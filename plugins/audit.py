"""Record every event that comes, and the report of each attempt of each message, in the event history."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from runner import Context, Contract, Message, MessageStore, hookimpl, record_message


class Options(BaseModel):
    """There are none: ``store`` in config.yaml names the database."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@hookimpl
def contract() -> Contract:
    """Declare that every event is recorded."""
    return Contract()


@hookimpl
def start(context: Context) -> None:
    """Open the database now, so that an unusable one fails the start and dead-letters no events."""
    context.store  # noqa: B018 - the property opens it


@hookimpl
def handle(message: Message, store: MessageStore) -> None:
    """Record one event or report."""
    record_message(message, store)
