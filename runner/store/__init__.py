"""The database of a service: deduplication, outbox and the tables of plugins, in SQLite or PostgreSQL."""

from __future__ import annotations

#: The migration that the tables of ``runner.store.schema`` are the result of; here, because a reader of it needs no
#: SQLAlchemy.
REVISION = "0003"
