"""If the database refuses a statement, only its job fails, and no other job waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from runner.store.database import is_passing
from runner.store.process_store import Store


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO nowhere VALUES (1)", "SELEKT 1", "INSERT INTO leases VALUES ('a')", "UPDATE events SET nothing = 1"],
)
def test_an_invalid_statement_fails_alone_and_at_once(database: str, tmp_path: Path, statement: str) -> None:
    store = Store(database, tmp_path)
    wrong = store.commit(lambda connection: connection.execute(text(statement)))
    right = store.commit(lambda _: "done")
    assert right.result(10) == "done"
    with pytest.raises(DBAPIError) as caught:
        wrong.result(10)
    assert not is_passing(caught.value)
    store.close(5)


def test_a_job_waits_for_a_lock_of_another_connection(tmp_path: Path) -> None:
    store = Store("sqlite:///x.db", tmp_path)
    with store.engine.begin():
        waiting = store.commit(lambda _: "done")
        assert not waiting.done()
    assert waiting.result(20) == "done"
    store.close(5)
