"""The tables of the event history. A change needs a migration in ``runner/store/migrations``."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, Table, Text

from runner.store.schema import metadata

#: Every event that a recording service gets.
events = Table(
    "events",
    metadata,
    # The primary key is what makes a second delivery of the same event harmless.
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

#: The status of an order after an event of a type, as the plugins' contracts say.
order_statuses = Table(
    "order_statuses",
    metadata,
    Column("event_type", Text, primary_key=True),
    Column("status", Text, nullable=False),
)

#: The outcome of each attempt of each message, as the workers reported it.
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
    #: 1 for the first attempt; and how often the message had been replayed from its dead-letter queue.
    Column("attempt", Integer, nullable=False),
    Column("replays", Integer, nullable=False),
    #: ``handled``, ``duplicate``, ``retried`` or ``parked``; ``discarded`` by a person, from the queue in ``instance``.
    Column("outcome", Text, nullable=False),
    Column("error", Text),
    #: Milliseconds until the next attempt; none for the last one.
    Column("delay", BigInteger),
    #: When it was sent to the queue, and when the handler began and ended.
    Column("sent_at", BigInteger),
    Column("began_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("redelivered", Boolean, nullable=False),
    #: When it was replayed for the last time.
    Column("replayed_at", BigInteger),
    Index("attempts_by_order", "order_id", "began_at"),
)
