"""The database of a service: deduplication, outbox and the tables of plugins, in SQLite or PostgreSQL."""

from __future__ import annotations

#: The latest migration. The constant is here because ``runner.history.reader`` needs it without SQLAlchemy.
REVISION = "0004"
