"""GET /orders/{id} with a real database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from runner.errors import StoreUnreachable
from runner.history.order_history import as_json, read_history
from runner.history.reader import reading, statement_of
from runner.store.process_store import Store
from tests.audited import fill
from tests.machine import in_time
from tests.rabbit import wait_until
from tests.unit.test_order_api import Context, client_of, conforms, post, refusal

PATH = "/orders/{order_id}"


class Audited(Context):
    """A worker's context with audit, and a store that may be unreachable."""

    has_history = True

    def __init__(self, store: Store | None) -> None:
        super().__init__()
        self._store = store

    def order_history(self, order_id: str) -> dict[str, Any] | None:
        store = self._store
        if store is None:
            raise StoreUnreachable("store.url: postgresql://shop@nowhere/shop: is unreachable, connection refused")
        found = read_history(lambda sql, parameters: store.read(statement_of(sql, parameters)), order_id)
        return None if found is None else as_json(found)


@pytest.fixture
def store(database: str, tmp_path: Path) -> Iterator[Store]:
    one = Store(database, tmp_path)
    yield one
    one.close(5)


def asking(store: Store | None) -> Any:
    return client_of(Audited(store))


def test_the_answer_is_the_history_that_order_history_prints(store: Store, database: str, tmp_path: Path) -> None:
    fill(store.engine, ["o1", "o2"])
    answer = asking(store).get("/orders/o1")
    conforms(answer, "get", PATH)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    with reading(database, tmp_path) as read:
        assert read is not None
        found = read_history(read, "o1")
    assert found is not None
    history = as_json(found)
    assert answer.json == {name: history[name] for name in ("order_id", "status", "history")}
    assert [entry["kind"] for entry in answer.json["history"]] == [
        "published", "retried", "dead_lettered", "replayed", "handled", "published",
    ]  # fmt: skip
    assert answer.json["status"] == "paid"


@pytest.mark.parametrize("order_id", ["o", "o11", "%00", "%ff", "x" * 5000, "a%20b", "'--"])
def test_an_unknown_order_or_an_invalid_id_is_a_404(store: Store, order_id: str) -> None:
    fill(store.engine, ["o1"])
    problem = refusal(asking(store).get(f"/orders/{order_id}"), 404, path=PATH, method="get")
    assert "unknown order" in problem["detail"]


def test_an_unreachable_database_is_a_503_with_the_reason() -> None:
    answer = asking(None).get("/orders/o1")
    problem = refusal(answer, 503, path=PATH, method="get")
    assert "connection refused" in problem["detail"]
    assert problem["type"].endswith("/StoreUnavailable")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_database_that_hangs_blocks_few_threads_and_orders_are_still_accepted() -> None:
    hangs, asked = threading.Event(), threading.Semaphore(0)

    class Hanging:
        def read(self, statement: object) -> list[Any]:
            asked.release()
            assert hangs.wait(20)
            return []

    context = Audited(None)
    context._store = cast(Store, Hanging())
    client = client_of(context, threads=8)
    answers: list[int] = []

    def ask() -> None:
        answers.append(client.get("/orders/o1").status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    assert all(asked.acquire(timeout=10) for _ in range(2))
    # Two of the four requests are refused while the other two still wait for the database.
    wait_until(lambda: answers == [503, 503], 10)
    assert post(client).status_code == 202
    hangs.set()
    for one in threads:
        one.join(10)
    assert sorted(answers) == [404, 404, 503, 503]


def test_an_answer_does_not_wait_for_a_writing_connection(tmp_path: Path) -> None:
    store = Store("sqlite:///var/fastcommerce.db", tmp_path)
    fill(store.engine, ["o1"])
    with store.engine.begin():  # holds SQLite's write lock
        began = time.monotonic()
        assert asking(store).get("/orders/o1").status_code == 200
        assert time.monotonic() - began < in_time(2)
    store.close(5)
