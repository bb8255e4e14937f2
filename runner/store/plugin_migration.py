"""The migration of plugin tables. The table ``plugin_tables`` records the number of completed steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Engine, insert, inspect, select, update

from runner.contract import OwnedTables
from runner.errors import PluginError, StoreError
from runner.store.database import explained, is_passing, migrating, reading, reason_of
from runner.store.schema import RESERVED_TABLES, plugin_tables


class _Recorded(NamedTuple):
    """The contents of a row in ``plugin_tables``."""

    steps: int
    columns: Mapping[str, Sequence[str]]


def migrate(engine: Engine, owned: OwnedTables) -> None:
    """Create or migrate a plugin's tables, unless ``plugin_tables`` shows that they are up to date.

    - Raises StoreError if the database cannot be used, or if a newer version of the plugin has used it.
    - Raises StoreError if the database contains a table with the same name and another owner.
    - Raises StoreUnreachable if the database is unreachable.
    - Raises PluginError if a step fails, or if the steps do not result in the declared tables.
    """
    with explained(engine.url):
        with reading(engine).connect() as connection:
            if _is_up_to_date(owned, connection):
                return
        with migrating(engine) as connection:
            if not _is_up_to_date(owned, connection):  # another process may have migrated the tables
                _upgrade(owned, connection)


def _is_up_to_date(owned: OwnedTables, connection: Connection) -> bool:
    declared = _Recorded(len(owned.tables.steps), owned.tables.columns)
    return _recorded(connection).get(owned.plugin) == declared


def _upgrade(owned: OwnedTables, connection: Connection) -> None:
    plugin, tables = owned
    recorded = _recorded(connection)
    _check_owners(owned, recorded)
    existing = set(inspect(connection).get_table_names())
    steps = len(tables.steps)
    # Existing tables without a record were created before plugins had migration steps.
    is_new = plugin not in recorded and existing.isdisjoint(tables.columns)
    done = recorded[plugin].steps if plugin in recorded else steps if is_new else 0
    if done > steps:
        raise StoreError(
            f"plugin {plugin!r}: tables: step {done} belongs to a newer version of the plugin; allowed: steps up to"
            f" {steps}; run the newer version or use another database"
        )
    _run_steps(owned, done, connection)
    tables.metadata.create_all(connection)
    _check_columns(owned, connection)
    row = {"plugin": plugin, "steps": steps, "columns": tables.columns}
    change = update(plugin_tables).where(plugin_tables.c.plugin == plugin)
    connection.execute(change if plugin in recorded else insert(plugin_tables), row)


def _recorded(connection: Connection) -> dict[str, _Recorded]:
    return {plugin: _Recorded(steps, columns) for plugin, steps, columns in connection.execute(select(plugin_tables))}


def _check_owners(owned: OwnedTables, recorded: Mapping[str, _Recorded]) -> None:
    # Table names in SQLite are not case-sensitive.
    owners = {name.lower(): "FastCommerce" for name in RESERVED_TABLES}
    owners |= {name.lower(): f"plugin {other!r}" for other, one in recorded.items() for name in one.columns}
    for name in owned.tables.columns:
        if owners.get(name.lower(), other := f"plugin {owned.plugin!r}") != other:
            text = f"table {name!r} belongs to {owners[name.lower()]}; allowed: another name"
            raise StoreError(f"plugin {owned.plugin!r}: tables: {text}, such as {owned.plugin}_{name}")


def _run_steps(owned: OwnedTables, done: int, connection: Connection) -> None:
    if done == len(owned.tables.steps):
        return
    # Alembic is imported here, because the tables are up to date at nearly every start.
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    operations, transaction = Operations(MigrationContext.configure(connection)), connection.get_transaction()
    for number, step in enumerate(owned.tables.steps[done:], done + 1):
        try:
            step(operations)
        except Exception as error:
            if is_passing(error):
                raise
            said = f"{type(error).__name__}: {reason_of(error)}"
            text = f"step {number} failed and was rolled back, {said}; fix the step"
            raise PluginError(f"plugin {owned.plugin!r}: tables: {text}") from error
        if transaction is None or not transaction.is_active:
            # The committed changes remain, but the step is not recorded as completed.
            text = f"step {number} ended the transaction; allowed: a step that neither commits nor rolls back"
            raise PluginError(f"plugin {owned.plugin!r}: tables: {text}")


def _check_columns(owned: OwnedTables, connection: Connection) -> None:
    found = inspect(connection)
    for name, table in owned.tables.metadata.tables.items():
        there = {one["name"] for one in found.get_columns(table.name, table.schema)}
        missing = sorted({column.name for column in table.columns} - there)
        if missing:
            text = f"table {name!r} has no column {missing[0]!r} in the database; add a step for the column"
            raise PluginError(f"plugin {owned.plugin!r}: tables: {text}, such as op.add_column({name!r}, Column(…))")
