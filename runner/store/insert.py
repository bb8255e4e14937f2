"""Insert a row unless one with its key is there, on either database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table

from runner.store.prepared import insertion


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert ``row``; False where its key, or another of its unique values, is there already."""
    return insertion(table, tuple(row)).execute(connection, row) == 1
