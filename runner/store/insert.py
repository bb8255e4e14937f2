"""Insert a row unless one with its key is there, on either database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert ``row``; False where its key, or another of its unique values, is there already."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    # SQLAlchemy keeps the count of an INSERT only where it is told to.
    statement = insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    return connection.execute(statement, dict(row)).rowcount == 1
