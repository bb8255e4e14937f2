"""The database of a service: deduplication, outbox and the tables of plugins, in SQLite or PostgreSQL."""

from __future__ import annotations

#: The latest migration. It is defined here because ``runner.history.reader`` must not import SQLAlchemy.
REVISION = "0004"
