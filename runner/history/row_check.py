"""Rows as they are read back: SQLite keeps in a column whatever it is given, and a person may have changed a row."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any

from runner.errors import StoreError

#: What a column of each kind may hold. SQLite has no booleans, and each driver has a type of its own for bytes.
TEXT, NUMBER, FLAG, DATA, OBJECT = (str,), (int,), (bool, int), (bytes, memoryview), (dict,)
OPTIONAL_TEXT, OPTIONAL_NUMBER = (str, NoneType), (int, NoneType)

#: The names and kinds of some columns.
Columns = Sequence[tuple[str, tuple[type, ...]]]


def check_row(table: str, columns: Columns, row: Sequence[Any]) -> None:
    """Raise StoreError if a value is none that the services write; the error names its column."""
    for (name, kind), value in zip(columns, row, strict=True):
        if not isinstance(value, kind):
            raise unreadable(table, name, value)


def unreadable(table: str, column: str, value: object) -> StoreError:
    """Return the error for a value that the services do not write."""
    what = f"not what the services write, {value!r:.80}; correct or remove that row"
    return StoreError(f"store.url: table {table}, column {column}: {what}")
