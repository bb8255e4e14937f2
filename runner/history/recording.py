"""The rows of the event history, which contain events and attempt reports."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from runner.escape import MOST_INDEXED, storable
from runner.headers import PUBLISHED_AT, SENT_AT, milliseconds_of
from runner.history.records import present_outcome
from runner.messages import ATTEMPT_TYPE, Message, Reject

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from runner.hooks import MessageStore

#: A function with one parameter, because pydantic may pass a second argument to a function with two parameters.
Text = Annotated[str, AfterValidator(lambda text: storable(text))]  # noqa: PLW0108 - see above
#: A long id is truncated instead of rejected, because an optional property must not make a report invalid.
OrderId = Annotated[str, AfterValidator(lambda text: storable(text, MOST_INDEXED))]
#: A number of milliseconds that fits into a 64-bit column.
Milliseconds = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Outcome = Annotated[
    Literal["handled", "duplicate", "retried", "dead_lettered", "discarded"],
    # Workers of an earlier version may still be running, and their reports may still be in the queue.
    BeforeValidator(present_outcome),
]


class AttemptReport(BaseModel):
    """A worker's report about one attempt, or a note about a discarded message."""

    model_config = ConfigDict(frozen=True, strict=True)

    order_id: OrderId | None
    message_id: Text
    message_type: Text
    queue: Text
    service: Text
    instance: Text
    attempt: Count
    replays: Count
    outcome: Outcome
    error: Text | None
    delay: Milliseconds | None
    sent_at: Milliseconds | None
    began_at: Milliseconds
    ended_at: Milliseconds
    redelivered: bool
    replayed_at: Milliseconds | None
    #: Workers of an earlier version do not report their process ids.
    pid: Count | None = None


def record_message(message: Message, store: MessageStore) -> None:
    """Store an event or an attempt report in the transaction of its message.

    A message that is delivered more than once is stored only once. Raises Reject for a malformed report.
    """
    # Imported here, because programs that never open a database also import this module.
    from runner.history.tables import attempts, events
    from runner.store.prepared import insert_new

    is_report = message.type == ATTEMPT_TYPE
    table, row = (attempts, attempt_row(message)) if is_report else (events, event_row(message))
    store.transact(lambda connection: insert_new(connection, table, row))


def set_statuses(connection: Connection, statuses: Mapping[str, str]) -> None:
    """Replace the stored statuses. ``statuses`` contains the order status after each event type."""
    from runner.history.tables import order_statuses
    from runner.store.prepared import insert_new

    connection.execute(order_statuses.delete())
    for event, status in statuses.items():
        # Another instance may insert the same rows at the same time.
        insert_new(connection, order_statuses, {"event_type": event, "status": status})


def event_row(message: Message) -> dict[str, Any]:
    """Return the row for an event."""
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


def attempt_row(message: Message) -> dict[str, Any]:
    """Return the row for an attempt. Raises Reject if the body is not an attempt report."""
    try:
        report = AttemptReport.model_validate(message.json())
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors())
        raise Reject(f"message {message.id}: not an attempt report: {wrong}") from None
    return {"id": storable(message.id), **report.model_dump()}


def published_at(message: Message) -> int:
    """Return the time (in milliseconds since the epoch) at which a message was first published, or the current time."""
    for name in (PUBLISHED_AT, SENT_AT):
        value = milliseconds_of(message.headers.get(name))
        if value is not None:
            return value
    return int(time.time() * 1000) if message.timestamp is None else message.timestamp * 1000


def plain(value: object) -> Any:
    """Convert a header value to a JSON value. Values without a JSON type become text."""
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
