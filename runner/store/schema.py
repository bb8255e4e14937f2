"""The tables for deduplication, the outbox and the migration of plugin tables.

Each change requires a migration in ``migrations/versions`` and a new ``runner.store.REVISION``.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
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
#: SQLite generates numbers only for columns of type INTEGER.
_SERIAL = BigInteger().with_variant(Integer, "sqlite")
_UNSENT = text("sent_at IS NULL")

#: The handled messages of each service, with their events. A second delivery publishes the same events again.
inbox = Table(
    "inbox",
    metadata,
    Column("service", Text),
    Column("queue", Text),
    Column("message_id", Text),
    #: The events that the handler returned, as encoded by ``runner.store.event_bytes``.
    Column("events", LargeBinary, nullable=False),
    #: The time in milliseconds since the epoch, like all times in this module.
    Column("done_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("service", "queue", "message_id"),
    Index("inbox_by_age", "done_at"),
    sqlite_with_rowid=False,
)

outbox = Table(
    "outbox",
    metadata,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("service", Text, nullable=False),
    Column("event_id", Text, nullable=False, unique=True),
    Column("event", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    #: The time of the broker's confirm. NULL before the confirm.
    Column("sent_at", BigInteger),
    Index("outbox_unsent", "service", "number", sqlite_where=_UNSENT, postgresql_where=_UNSENT),
    Index("outbox_by_age", "sent_at"),
)

#: The leases for tasks that only one process may perform at a time.
leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
)

#: The migrations that ``runner.store.plugin_migration`` has completed for each plugin.
plugin_tables = Table(
    "plugin_tables",
    metadata,
    Column("plugin", Text, primary_key=True),
    #: The number of completed steps, and the columns of each table.
    Column("steps", Integer, nullable=False),
    Column("columns", JSON, nullable=False),
)

#: The reserved table names, which no plugin may use.
RESERVED_TABLES = frozenset({"alembic_version", "attempts", "events", "order_statuses", *metadata.tables})
