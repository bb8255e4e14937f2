"""The tables. A change here needs a migration in ``migrations/versions``, and its name in ``revision.py``."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

metadata = MetaData()
#: SQLite counts in its own integers only.
_SERIAL = BigInteger().with_variant(Integer, "sqlite")
_UNSENT = text("sent_at IS NULL")

#: What each service made of each message: a second delivery of it finds the first one's outcome here.
inbox = Table(
    "inbox",
    metadata,
    Column("service", Text),
    Column("queue", Text),
    Column("message_id", Text),
    #: The events that its handler returned, as ``runner.store.event_bytes`` writes them.
    Column("events", LargeBinary, nullable=False),
    #: Milliseconds since the epoch, as all times here are.
    Column("done_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("service", "queue", "message_id"),
    Index("inbox_by_age", "done_at"),
    sqlite_with_rowid=False,
)

#: The ledger of payment: one row for each order, for good.
charges = Table(
    "charges",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("payment_id", Text, nullable=False),
    #: In ten-thousandths of the currency's unit: no currency has more than four decimal places (ISO 4217).
    Column("ten_thousandths", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    #: Why it was declined; nothing where it was charged.
    Column("reason", Text),
    Column("message_id", Text, nullable=False),
    Column("charged_at", BigInteger, nullable=False),
)

#: The e-mails that were sent: one for each event.
emails = Table(
    "emails",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("order_id", Text, index=True),
    Column("type", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("sent_at", BigInteger, nullable=False),
)

#: Orders that were taken while their event may still wait in the outbox.
orders = Table(
    "orders",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("idempotency_key", Text, unique=True),
    #: SHA-256 of the order, to tell a repeated request from another one with the same key.
    Column("fingerprint", Text, nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("service", Text, nullable=False),
    Column("event_id", Text, nullable=False, unique=True),
    Column("event", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    #: When the broker had confirmed it; nothing before.
    Column("sent_at", BigInteger),
    Index("outbox_unsent", "service", "number", sqlite_where=_UNSENT, postgresql_where=_UNSENT),
    Index("outbox_by_age", "sent_at"),
)

#: Who does what only one process may do at a time.
leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
)

#: Every event on the exchanges that audit is bound to.
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

#: What became of each try of each message, as the workers told it.
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
    #: 1 for the first try; and how often the message had been replayed from its dead-letter queue.
    Column("attempt", Integer, nullable=False),
    Column("replays", Integer, nullable=False),
    #: ``handled``, ``duplicate``, ``retried`` or ``parked``; ``discarded`` by a person, from the queue in ``instance``.
    Column("outcome", Text, nullable=False),
    Column("error", Text),
    #: Milliseconds until the next try; of the last one nothing.
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
