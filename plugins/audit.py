"""Write down every event that comes, and the note of each try of each message where ``trace`` sends them here.

Each is a row of the store's tables ``events`` and ``attempts``, once, however often it is delivered.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from runner import Context, Contract, Message, MessageStore, Reject, hookimpl
from runner.headers import PUBLISHED_AT, SENT_AT, milliseconds_of
from runner.messages import ATTEMPT_TYPE
from runner.store.text import MOST_INDEXED, storable

if TYPE_CHECKING:
    from runner.store.process_store import Store


Text = Annotated[str, AfterValidator(storable)]
#: Cut rather than refused: a note must not fail because of an optional property.
OrderId = Annotated[str, AfterValidator(lambda text: storable(text, MOST_INDEXED))]
#: Milliseconds, as a column of 64 bits holds them.
Milliseconds = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**31)]


class Options(BaseModel):
    """There are none: ``store`` in config.yaml says which database."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Note(BaseModel):
    """What a worker tells of one try of one message, or the desk of a message that a person discarded."""

    model_config = ConfigDict(frozen=True, strict=True)

    order_id: OrderId | None
    message_id: Text
    message_type: Text
    queue: Text
    service: Text
    instance: Text
    attempt: Count
    replays: Count
    outcome: Literal["handled", "duplicate", "retried", "parked", "discarded"]
    error: Text | None
    delay: Milliseconds | None
    sent_at: Milliseconds | None
    began_at: Milliseconds
    ended_at: Milliseconds
    redelivered: bool
    replayed_at: Milliseconds | None


@hookimpl
def contract() -> Contract:
    """Say that every event is recorded."""
    return Contract()


@hookimpl
def start(context: Context) -> Store:
    """Open the database now, so that one that cannot be used parks no events."""
    return context.store


@hookimpl
def handle(message: Message, store: MessageStore) -> None:
    """Have one event or note written in the message's transaction."""
    # Imported here because the options are also checked by programs that never open a database.
    from runner.store.insert import insert_new
    from runner.store.schema import attempts, events

    is_note = message.type == ATTEMPT_TYPE
    table, row = (attempts, note_row(message)) if is_note else (events, event_row(message))
    store.transact(lambda connection: insert_new(connection, table, row))


def event_row(message: Message) -> dict[str, Any]:
    """The row of an event."""
    return {
        "id": storable(message.id),
        "type": storable(message.type),
        "order_id": storable(message.correlation_id, MOST_INDEXED) or None,
        "published_at": published_at(message),
        "exchange": storable(message.exchange),
        "routing_key": storable(message.routing_key),
        "app_id": storable(message.app_id) or None,
        "causation_id": storable(message.causation_id) or None,
        "content_type": storable(message.content_type) or None,
        "headers": {storable(str(name)): plain(value) for name, value in message.headers.items()},
        "body": storable(message.body.decode("utf-8", "backslashreplace")),
    }


def note_row(message: Message) -> dict[str, Any]:
    """The row of a try; what is no note is rejected, since it will not become one."""
    try:
        note = Note.model_validate(message.json())
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in error.errors())
        raise Reject(f"message {message.id}: not a note of a try, {faults}") from None
    return {"id": storable(message.id), **note.model_dump()}


def published_at(message: Message) -> int:
    """When the event was published, in milliseconds since the epoch; of one that does not say so, now."""
    for name in (PUBLISHED_AT, SENT_AT):
        value = milliseconds_of(message.headers.get(name))
        if value is not None:
            return value
    return int(time.time() * 1000) if message.timestamp is None else message.timestamp * 1000


def plain(value: object) -> Any:
    """A header's value as JSON has it; what JSON has no type for becomes text."""
    if isinstance(value, Mapping):
        return {storable(str(name)): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes | bytearray):
        return storable(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float) else storable(str(value))
