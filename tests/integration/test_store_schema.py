"""The migrations create the same tables whichever process opens the empty database first."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, event, text

from runner.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_STORE
from runner.history.reader import reading
from runner.history.tables import attempts, events
from runner.store import REVISION
from runner.store.database import _set_up_sqlite, open_database
from runner.store.schema import metadata, plugin_tables
from tests.audited import turn_on
from tests.postgres import Postgres
from tests.rabbit import Vhost, wait_until
from tests.running import Project

#: A program that forks processes after all imports. The processes open a database at the same moment.
OPEN = """
import os, sys
from pathlib import Path
import alembic.command
import psycopg
from runner.store.database import open_database
from runner.history.tables import events
from sqlalchemy import func, select
gate, starter = os.pipe()
children = []
for _ in range(4):
    children.append(os.fork())
    if children[-1] == 0:
        os.close(starter)
        os.read(gate, 1)
        engine = open_database(sys.argv[1], Path(sys.argv[2]))
        with engine.connect() as connection:
            print(connection.execute(select(func.count()).select_from(events)).scalar(), flush=True)
        os._exit(0)
os.close(starter)
print([os.waitpid(child, 0)[1] for child in children])
"""


def test_the_migrations_create_the_tables_of_the_code(database: str, tmp_path: Path) -> None:
    engine = open_database(database, tmp_path)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert {attempts, events, plugin_tables} <= {*metadata.tables.values()}
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == REVISION
    engine.dispose()


def test_several_processes_can_open_an_empty_database_at_once(database: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN, database, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["0"] * 4 + ["[0, 0, 0, 0]"], done.stderr


def test_the_first_connections_to_a_file_wait_for_each_other(tmp_path: Path) -> None:
    """SQLite itself refuses one of eight connections in about every twentieth file."""
    refused: list[BaseException] = []

    def connect(url: str, gate: threading.Barrier) -> None:
        engine = create_engine(url, connect_args={"check_same_thread": False})
        event.listen(engine, "connect", _set_up_sqlite)
        gate.wait()
        try:
            engine.connect().close()
        except BaseException as error:
            refused.append(error)
        engine.dispose()

    for number in range(200):
        gate = threading.Barrier(8)
        url = f"sqlite:///{tmp_path}/{number}.db"
        threads = [threading.Thread(target=connect, args=(url, gate)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert refused == []


def test_a_schema_of_a_newer_version_is_refused_with_78(database: str, project: Project) -> None:
    config = project.config()
    config["store"] = {"url": database}
    project.set_config(config)
    engine = open_database(database, project.folder)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    command = ["events"] if database.startswith("sqlite") else ["order", "history", "x"]
    runner = project.run(*command)
    assert runner.process.wait(30) == EXIT_CONFIG
    runner.wait_for("schema 9999 belongs to a newer version")


def test_a_service_with_a_table_refuses_a_newer_schema_and_dead_letters_nothing(
    database: str, project: Project, vhost: Vhost
) -> None:
    turn_on(project, database)
    config = project.config()
    for other in ("payment", "notification"):
        del config["services"][other]
    project.set_config(config)
    engine = open_database(database, project.folder)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    runner = project.run(url=vhost.url)
    runner.wait_for("audit.1 .*schema 9999 belongs to a newer version")
    runner.wait_for("audit.1 FATAL")
    project.first_order()
    wait_until(lambda: vhost.queues()["audit.events"].get("messages"), 20, "the event waits in its queue")
    assert not vhost.messages("audit.events.dlq")
    assert "alembic" not in runner.output
    assert runner.stop() == EXIT_FAILURE


def test_a_command_exits_with_74_if_the_database_does_not_answer(project: Project) -> None:
    server = Postgres()
    url = server.make_database("shop")
    config = project.config()
    config["store"] = {"url": url}
    project.set_config(config)
    open_database(url, project.folder).dispose()
    server.close()
    runner = project.run("events")
    assert runner.process.wait(30) == EXIT_STORE
    runner.wait_for(r"store\.url: postgresql://shop@127\.0\.0\.1:\d+/shop: is unreachable")


def test_reading_creates_no_tables(database: str, tmp_path: Path) -> None:
    with reading(database, tmp_path) as read:
        assert read is None
    with reading(database, tmp_path) as read:
        assert read is None
    assert not (tmp_path / "var").exists()
