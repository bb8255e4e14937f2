"""The tables that a plugin brings. This module imports no SQLAlchemy, because most services need none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from alembic.operations import Operations
    from sqlalchemy import MetaData


@dataclass(frozen=True)
class Tables:
    """The result of the hook ``tables``: the tables as they are now, and the steps that lead there from the first ones.

    A new database gets the tables as declared. In a database of an earlier version of the plugin those steps run, once
    each, that are not recorded there; then missing tables are created. Steps are only ever added at the end.
    """

    #: With the tables of this plugin alone.
    metadata: MetaData
    #: Each gets Alembic's operations (Alembic: "Operation Reference"), on SQLite and on PostgreSQL.
    steps: Sequence[Callable[[Operations], object]] = ()

    @property
    def columns(self) -> dict[str, list[str]]:
        """The names of the columns of each table, sorted."""
        return {name: sorted(table.columns.keys()) for name, table in sorted(self.metadata.tables.items())}


class OwnedTables(NamedTuple):
    """The tables of a plugin, with its name."""

    plugin: str
    tables: Tables
