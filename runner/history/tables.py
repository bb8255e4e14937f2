"""The tables of the event history. Each change to these tables needs a migration in ``runner/store/migrations``."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, Table, Text

from runner.store.schema import metadata

#: The events that a recording service receives, with one row for each event.
events = Table(
    "events",
    metadata,
    # Because of this primary key, a second delivery of the same event adds no row.
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("order_id", Text),
    Column("published_at", BigInteger, nullable=False),
    Column("exchange", Text, nullable=False),
    Column("routing_key", Text, nullable=False),
    Column("app_id", Text),
    Column("causation_id", Text),
    Column("content_type", Text),
    Column("headers", JSON, nullable=False),
    Column("body", Text, nullable=False),
    Index("events_by_order", "order_id", "published_at"),
    Index("events_by_type", "type", "published_at"),
    Index("events_by_time", "published_at"),
)

#: The order status after each event type, from the plugins' contracts.
order_statuses = Table(
    "order_statuses",
    metadata,
    Column("event_type", Text, primary_key=True),
    Column("status", Text, nullable=False),
)

#: The attempts from the workers' reports, with one row for each attempt on each message.
attempts = Table(
    "attempts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("order_id", Text),
    Column("message_id", Text, nullable=False),
    Column("message_type", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("instance", Text, nullable=False),
    #: The attempt number, starting at 1, and the number of previous replays from the dead-letter queue.
    Column("attempt", Integer, nullable=False),
    Column("replays", Integer, nullable=False),
    #: ``handled``, ``duplicate``, ``retried``, ``dead_lettered`` or ``discarded``. For ``discarded``, ``instance``
    #: names the dead-letter queue. Processes of earlier versions write ``parked`` instead of ``dead_lettered``.
    Column("outcome", Text, nullable=False),
    Column("error", Text),
    #: Milliseconds until the next attempt, or NULL if there is no next attempt.
    Column("delay", BigInteger),
    #: The times at which the message was sent to the queue, the handler started, and the handler returned.
    Column("sent_at", BigInteger),
    Column("began_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("redelivered", Boolean, nullable=False),
    #: The time of the latest replay.
    Column("replayed_at", BigInteger),
    #: The process id of the instance. NULL for a discarded message, and for attempts that earlier versions recorded.
    Column("pid", Integer),
    Index("attempts_by_order", "order_id", "began_at"),
)
