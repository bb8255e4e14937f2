"""The declaration of a plugin's tables. This module imports no SQLAlchemy, because most services need none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from alembic.operations import Operations
    from sqlalchemy import MetaData


@dataclass(frozen=True)
class Tables:
    """The result of the hook ``tables``: the current tables, and all steps since their first version.

    In a new database, the tables are created as declared. In a database of an earlier version of the plugin, each step
    that is not recorded runs once. Then missing tables are created. New steps must be added at the end.
    """

    #: The metadata with the tables of this plugin only.
    metadata: MetaData
    #: Functions that get Alembic's operations (Alembic: "Operation Reference"), for SQLite and PostgreSQL.
    steps: Sequence[Callable[[Operations], object]] = ()

    @property
    def columns(self) -> dict[str, list[str]]:
        """The names of the columns of each table, sorted."""
        tables = sorted(self.metadata.tables.items())
        # By their names in the database; a Column may have another key for Python.
        return {name: sorted(column.name for column in table.columns) for name, table in tables}


class OwnedTables(NamedTuple):
    """The tables of a plugin, with the name of the plugin."""

    plugin: str
    tables: Tables
