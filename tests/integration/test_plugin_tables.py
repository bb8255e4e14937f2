"""The tables of plugins: new tables, changed tables, tables of earlier versions, and refused tables."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.operations import Operations
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, create_engine, inspect, text

from runner.contract import OwnedTables, Tables
from runner.errors import PluginError, StoreError
from runner.history.order_history import read_history
from runner.history.reader import reading
from runner.store.database import location, open_database
from runner.store.plugin_migration import migrate
from runner.store.process_store import Store
from tests.keeping import make_tables
from tests.postgres import Postgres
from tests.rabbit import wait_until

DUMPS = Path(__file__).parents[1] / "databases"
#: The number of rows in each table of each dump. A running system wrote the dumps.
ROWS = {"attempts": 18, "charges": 4, "emails": 10, "events": 10, "inbox": 14, "orders": 6, "outbox": 6}


def load(dump: str, address: str, folder: Path) -> None:
    """Create a database from a dump."""
    url = location(address, folder)
    script = (DUMPS / f"{dump}.{url.get_backend_name()}.sql").read_text()
    if url.get_backend_name() == "sqlite":
        with contextlib.closing(sqlite3.connect(str(url.database))) as file:
            file.executescript(script)
        return
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(script.replace("%", "%%"))
    engine.dispose()


def content(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of the tables in ``ROWS``."""
    with engine.connect() as connection:
        rows = {name: connection.execute(text(f"SELECT * FROM {name}")).mappings().all() for name in ROWS}
    return {name: sorted((dict(row) for row in some), key=repr) for name, some in rows.items()}


@pytest.mark.parametrize("version", ["4ed8786", "de8e628"])
def test_a_database_of_an_earlier_version_opens_with_every_row(version: str, database: str, tmp_path: Path) -> None:
    load(version, database, tmp_path)
    engine = create_engine(location(database, tmp_path))
    before = content(engine)
    assert {name: len(rows) for name, rows in before.items()} == ROWS
    for row in before["charges"]:
        row["ten_thousandths"] = row.pop("hundredths") * 100 if version == "4ed8786" else row["ten_thousandths"]
    former = [row for row in before["attempts"] if row["outcome"] == "parked"]
    assert former
    for row in former:
        row["outcome"] = "dead_lettered"
    for row in before["attempts"]:
        assert "pid" not in row
        row["pid"] = None
    store = make_tables(Store(database, tmp_path))
    after = content(engine)
    for rows in (*before.values(), *after.values()):
        rows[:] = sorted((dict(sorted(row.items())) for row in rows), key=repr)
    assert after == before
    assert inspect(engine).get_indexes("emails")[0]["name"] == "ix_emails_order_id"
    with reading(database, tmp_path) as read:
        assert read is not None
        found = {row["order_id"]: read_history(read, row["order_id"]) for row in after["orders"]}
    decided = {one.order_id: one.status for one in found.values() if one is not None and one.decided_by is not None}
    assert decided == {row["order_id"]: "declined" if row["reason"] else "paid" for row in after["charges"]}
    # A process of the earlier version that still runs writes the earlier outcome.
    with engine.begin() as connection:
        connection.execute(text("UPDATE attempts SET outcome = 'parked' WHERE outcome = 'dead_lettered'"))
    with reading(database, tmp_path) as read:
        assert read is not None
        assert {order: read_history(read, order) for order in found} == found
    assert any(one.dead_lettered for one in found.values() if one is not None)
    store.close(5)
    engine.dispose()


@pytest.mark.parametrize("table", ["charges", "emails", "orders"])
def test_a_first_row_that_an_earlier_version_commits_during_the_migration_is_kept(
    table: str, postgres: Postgres, tmp_path: Path
) -> None:
    address = postgres.make_database(f"late_{table}")
    load("de8e628", address, tmp_path)
    engine = create_engine(location(address, tmp_path))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE saved AS SELECT * FROM {table} LIMIT 1"))
        connection.execute(text("DELETE FROM charges"))
        connection.execute(text("DELETE FROM emails"))
        connection.execute(text("DELETE FROM orders"))
    with engine.connect() as earlier, ThreadPoolExecutor(1) as thread:
        earlier.execute(text(f"INSERT INTO {table} SELECT * FROM saved"))
        opening = thread.submit(open_database, address, tmp_path)
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'")
        with engine.connect() as observer:
            wait_until(lambda: opening.done() or observer.scalar(waiting))
        earlier.commit()
        opening.result(20).dispose()
    with engine.connect() as connection:
        assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 1
    engine.dispose()


def stock(*columns: str, steps: tuple[Callable[[Operations], object], ...] = ()) -> OwnedTables:
    metadata = MetaData()
    further = [Column(name, Integer, nullable=False, server_default="0") for name in columns]
    Table("stock", metadata, Column("item", Text, primary_key=True), Column("pieces", Integer), *further)
    return OwnedTables("warehouse", Tables(metadata, steps))


def add_reserved(op: Operations) -> None:
    op.add_column("stock", Column("reserved", Integer, nullable=False, server_default="0"))


def double(op: Operations) -> None:
    op.execute("UPDATE stock SET pieces = pieces * 2")


@pytest.fixture
def engine(database: str, tmp_path: Path) -> Iterator[Engine]:
    one = open_database(database, tmp_path)
    yield one
    one.dispose()


def insert(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO stock (item, pieces) VALUES ('cup', 10)"))


def rows(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text("SELECT * FROM stock"))]


def test_a_plugin_s_tables_are_created_once_and_each_new_step_runs_once(engine: Engine) -> None:
    migrate(engine, stock())
    insert(engine)
    migrate(engine, stock())
    assert rows(engine) == [("cup", 10)]
    for _ in range(2):
        migrate(engine, stock("reserved", steps=(add_reserved, double)))
        assert rows(engine) == [("cup", 20, 0)]


def test_a_new_database_gets_the_tables_as_declared_and_no_step_runs(engine: Engine) -> None:
    migrate(engine, stock("reserved", steps=(add_reserved, double)))
    insert(engine)
    migrate(engine, stock("reserved", steps=(add_reserved, double, double)))
    assert rows(engine) == [("cup", 20, 0)]


def test_a_table_that_is_not_recorded_yet_gets_every_step(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE stock (item TEXT PRIMARY KEY, pieces INTEGER)"))
    insert(engine)
    migrate(engine, stock("reserved", steps=(add_reserved, double)))
    assert rows(engine) == [("cup", 20, 0)]


def test_a_column_may_have_another_name_in_python(engine: Engine) -> None:
    metadata = MetaData()
    Table("stock", metadata, Column("item", Text, primary_key=True), Column("on shelf", Integer, key="pieces"))
    owned = OwnedTables("warehouse", Tables(metadata))
    assert owned.tables.columns == {"stock": ["item", "on shelf"]}
    migrate(engine, owned)
    migrate(engine, owned)
    metadata.tables["stock"].append_column(Column("is_used", Integer, key="used"))
    with pytest.raises(PluginError, match="table 'stock' has no column 'is_used' in the database"):
        migrate(engine, owned)


def test_a_further_table_needs_no_step(engine: Engine) -> None:
    migrate(engine, stock())
    more = stock()
    Table("prices", more.tables.metadata, Column("item", Text, primary_key=True))
    migrate(engine, more)
    assert {"stock", "prices"} <= set(inspect(engine).get_table_names())


def test_processes_that_migrate_at_once_run_each_step_once(engine: Engine) -> None:
    migrate(engine, stock())
    insert(engine)
    failed: list[BaseException] = []

    def upgrade(gate: threading.Barrier) -> None:
        gate.wait()
        try:
            migrate(engine, stock("reserved", steps=(add_reserved, double)))
        except BaseException as error:
            failed.append(error)

    gate = threading.Barrier(4)
    threads = [threading.Thread(target=upgrade, args=(gate,)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []
    assert rows(engine) == [("cup", 20, 0)]


def fail(op: Operations) -> None:
    op.execute("UPDATE stock SET pieces = 0")
    op.execute("UPDATE stok SET pieces = 0")


def leave(op: Operations) -> None:
    op.execute("UPDATE stock SET pieces = 0")
    raise KeyError("cup")


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (
            stock(steps=(fail,)),
            r"plugin 'warehouse': tables: step 1 failed and was rolled back, \w+: .*stok.*; fix the step",
        ),
        (stock(steps=(double, leave)), "step 2 failed and was rolled back, KeyError: 'cup'; fix the step"),
        (
            stock("reserved"),
            r"table 'stock' has no column 'reserved' in the database; add a step for the column, such as",
        ),
        (stock("a", "b", steps=(double,)), "table 'stock' has no column 'a' in the database"),
        (stock("reserved", steps=(add_reserved, add_reserved)), "step 2 failed and was rolled back, "),
    ],
    ids=["bad SQL", "an error of its own", "no step", "a step that adds no column", "a step given twice"],
)
def test_a_failing_or_missing_step_is_reported_and_changes_nothing(
    declared: OwnedTables, words: str, engine: Engine
) -> None:
    migrate(engine, stock())
    insert(engine)
    for _ in range(2):
        with pytest.raises(PluginError, match=words):
            migrate(engine, declared)
        assert rows(engine) == [("cup", 10)]
    migrate(engine, stock())


@pytest.mark.parametrize("ending", ["commit", "rollback", "close"])
def test_a_step_that_ends_the_transaction_is_reported(ending: str, engine: Engine) -> None:
    migrate(engine, stock())

    def end(op: Operations) -> None:
        getattr(op.get_bind(), ending)()

    with pytest.raises(PluginError, match="step 2 ended the transaction; allowed: a step that neither commits nor"):
        migrate(engine, stock(steps=(double, end)))


@pytest.mark.parametrize(
    ("name", "owner"),
    [("inbox", "FastCommerce"), ("events", "FastCommerce"), ("plugin_tables", "FastCommerce"),
     ("alembic_version", "FastCommerce"), ("charges", "plugin 'payment'"), ("Inbox", "FastCommerce"),
     ("EVENTS", "FastCommerce"), ("Charges", "plugin 'payment'")],
)  # fmt: skip
def test_a_table_of_another_owner_is_refused(name: str, owner: str, tmp_path: Path) -> None:
    store = make_tables(Store("sqlite:///a.db", tmp_path))
    metadata = MetaData()
    Table(name, metadata, Column("id", Text, primary_key=True))
    with pytest.raises(StoreError) as caught:
        migrate(store.engine, OwnedTables("mine", Tables(metadata)))
    store.close(5)
    assert str(caught.value) == (
        f"plugin 'mine': tables: table '{name}' belongs to {owner}; allowed: another name, such as mine_{name}"
    )


def test_tables_of_a_newer_version_of_the_plugin_are_refused(engine: Engine) -> None:
    migrate(engine, stock("reserved", steps=(add_reserved, double)))
    with pytest.raises(StoreError, match=r"tables: step 2 belongs to a newer version .*allowed: steps up to 1; run"):
        migrate(engine, stock("reserved", steps=(add_reserved,)))
