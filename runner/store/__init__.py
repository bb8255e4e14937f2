"""A service's database in SQLite or PostgreSQL, for deduplication, the outbox and plugin tables."""

from __future__ import annotations

#: The latest migration, defined here because ``runner.history.reader`` must not import SQLAlchemy.
REVISION = "0005"
