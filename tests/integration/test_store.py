"""The store on a real SQLite and a real PostgreSQL: shared commits, isolated failures, and deduplication."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import pytest
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from runner.amqp.properties import encode
from runner.errors import PublishRefused, StoreError, StoreUnreachable
from runner.messages import Event, Message, Retry
from runner.store import group_commit as writer_module
from runner.store import inbox_rows as inbox
from runner.store import outbox
from runner.store import schema as tables
from runner.store.commit_batch import Insertion
from runner.store.outbox import Relay
from runner.store.prepared import insert_new
from runner.store.process_store import Store
from runner.worker.deduplication import Deduplication
from runner.worker.delivery import DeliveryEvent, DeliveryLifecycle
from runner.worker.event_routing import EventRouter
from runner.worker.handler import Handler
from runner.worker.storage import Storage
from tests.keeping import CHARGES, make_tables
from tests.machine import in_time
from tests.postgres import Postgres
from tests.rabbit import wait_until


@pytest.fixture
def store(database: str, tmp_path: Path) -> Iterator[Store]:
    one = make_tables(Store(database, tmp_path))
    yield one
    one.close(5)


def charge(order: str) -> dict[str, Any]:
    return {
        "order_id": order,
        "payment_id": "p",
        "ten_thousandths": 1,
        "currency": "EUR",
        "message_id": "m",
        "charged_at": 1,
    }


def insert(order: str, connection: Connection) -> bool:
    return insert_new(connection, CHARGES, charge(order))


def record(store: Store, service: str, one: Message, events: Sequence[Event] = ()) -> Sequence[Event] | None:
    """Record a message's outcome as a worker does. Return the earlier outcome if there is one."""

    def otherwise(connection: Connection) -> Sequence[Event] | None:
        return inbox.earlier(connection, service, one)

    new = Insertion(inbox.INSERT, inbox.row(service, one, events), otherwise)
    return store.commit(lambda _: None, new=new).result(10)


def put(event: Event, connection: Connection) -> None:
    outbox.put(connection, "api", event)


def charged(store: Store) -> set[str]:
    return {one.order_id for one in store.read(select(CHARGES.c.order_id))}


def message(name: str) -> Message:
    return Message(b"{}", "q", id=name)


def test_all_jobs_that_several_threads_commit_together_are_stored(store: Store) -> None:
    futures: list[Future[bool]] = []

    def work(thread: int) -> None:
        for number in range(100):
            futures.append(store.commit(partial(insert, f"{thread}-{number}")))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(future.result(30) for future in futures)
    assert len(charged(store)) == 800


def test_a_failing_job_undoes_no_other_job(store: Store) -> None:
    gate = threading.Event()

    def hold(_: Connection) -> None:
        gate.wait(10)

    def half(connection: Connection) -> None:
        insert_new(connection, CHARGES, charge("half"))
        raise ValueError("a bug")

    def broken(connection: Connection) -> None:
        insert_new(connection, CHARGES, charge("broken"))
        insert_new(connection, CHARGES, {**charge("x"), "payment_id": None})

    held = store.commit(hold)
    first, failed = store.commit(partial(insert, "first")), store.commit(half)
    refused, last = store.commit(broken), store.commit(partial(insert, "last"))
    gate.set()  # so that all jobs share a transaction
    assert held.result(10) is None
    assert first.result(10) is True
    with pytest.raises(ValueError, match="a bug"):
        failed.result(10)
    with pytest.raises(IntegrityError):
        refused.result(10)
    assert last.result(10) is True
    assert charged(store) == {"first", "last"}


def test_errors_of_the_database_contain_no_values(store: Store) -> None:
    future = store.commit(lambda one: insert_new(one, CHARGES, {**charge("secret-id"), "payment_id": None}))
    with pytest.raises(IntegrityError) as caught:
        future.result(10)
    if store.engine.dialect.name == "sqlite":
        assert "secret-id" not in str(caught.value)


def test_jobs_wait_for_a_locked_database_and_fail_at_their_deadline(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    said: list[str | None] = []
    store, other = make_tables(Store(url, tmp_path, said.append)), Store(url, tmp_path)
    with other.engine.begin():
        impatient = store.commit(partial(insert, "impatient"), timeout=0.1)
        patient = store.commit(partial(insert, "patient"))
        with pytest.raises(StoreUnreachable, match="the database is unreachable: database is locked"):
            impatient.result(20)
        assert not patient.done()
    assert patient.result(10) is True
    assert charged(store) == {"patient"}
    wait_until(lambda: said == ["the database is unreachable: database is locked", None], 5)
    store.close(5)
    other.close(5)


def test_jobs_wait_for_a_restarted_server_and_are_then_committed(tmp_path: Path) -> None:
    server = Postgres()
    said: list[str | None] = []
    try:
        store = make_tables(Store(server.make_database("shop"), tmp_path, said.append))
        server.stop()
        with pytest.raises(StoreUnreachable):
            store.read(select(CHARGES.c.order_id))
        waiting = [store.commit(partial(insert, "a"))]
        wait_until(lambda: said, 30, "it is retried")
        # New jobs wait no longer than their own timeout, even though other jobs wait longer.
        for number in range(3):
            with pytest.raises(StoreUnreachable):
                store.commit(partial(insert, "b"), timeout=0.1).result(30)
            waiting.append(store.commit(partial(insert, f"c{number}")))
        assert not any(one.done() for one in waiting)
        server.start()
        assert all(one.result(30) is True for one in waiting)
        assert charged(store) == {"a", "c0", "c1", "c2"}
        store.close(5)
    finally:
        server.close()


def test_connections_that_the_server_closed_while_idle_are_reopened_silently(tmp_path: Path) -> None:
    server = Postgres()
    said: list[str | None] = []
    try:
        store = make_tables(Store(server.make_database("shop"), tmp_path, said.append))
        assert record(store, "a", message("1")) is None
        assert inbox.outcome(store, "a", message("1")) == []
        for number in range(2, 5):
            server.stop()
            server.start()
            assert inbox.outcome(store, "a", message(str(number))) is None
            assert record(store, "a", message(str(number))) is None
        assert said == []
        store.close(5)
    finally:
        server.close()


def test_in_a_shared_commit_only_new_messages_are_recorded(store: Store) -> None:
    assert record(store, "a", message("old"), [Event("x", b"", id="1")]) is None
    gate = threading.Event()
    held = store.commit(lambda _: gate.wait(10))
    done: list[str] = []

    def commit(name: str) -> Future[Sequence[Event] | None]:
        def otherwise(connection: Connection) -> Sequence[Event] | None:
            return inbox.earlier(connection, "a", message(name))

        def work(connection: Connection) -> None:
            insert_new(connection, CHARGES, charge(f"{name}-{len(done)}"))
            done.append(name)

        return store.commit(work, new=Insertion(inbox.INSERT, inbox.row("a", message(name), []), otherwise))

    first, old, twice, last = commit("first"), commit("old"), commit("first"), commit("last")
    gate.set()
    assert held.result(10) is True
    assert [one.result(10) for one in (first, old, twice, last)] == [None, [Event("x", b"", id="1")], [], None]
    assert done == ["first", "last"]
    assert charged(store) == {"first-0", "last-1"}


def test_a_missing_server_is_unreachable_and_an_unusable_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable, match=r"^store.url: postgresql://shop:\*\*\*@127.0.0.1:1/x: is unreachable, "):
        Store("postgresql://shop:canary@127.0.0.1:1/x", tmp_path)
    (tmp_path / "text.db").write_text("no database at all, but a text of some length" * 100)
    with pytest.raises(StoreError, match="cannot be used, file is not a database"):
        Store("sqlite:///text.db", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be used, "):
        Store("sqlite:///file/a.db", tmp_path)


def test_a_second_delivery_gets_the_events_of_the_first(store: Store) -> None:
    events = [Event("paid", {"a": 1}, "e", "k", id="1"), Event("told", b"\xff", "e", "k", {"x": b"y"}, id="2")]
    assert inbox.outcome(store, "payment", message("m")) is None
    assert record(store, "payment", message("m"), events) is None
    again = record(store, "payment", message("m"))
    assert again == inbox.outcome(store, "payment", message("m"))
    assert again is not None
    assert [one.encoded() for one in again] == [b'{"a":1}', b"\xff"]
    assert inbox.outcome(store, "notification", message("m")) is None, "another service has its own memory"
    assert inbox.outcome(store, "payment", Message(b"", "other", id="m")) is None, "and so has another queue"
    renamed = Message(b"", "renamed", id="m")
    assert inbox.outcome(store, "payment", renamed, message("m").queue) == again, "but not one that only has a new name"
    assert inbox.outcome(store, "payment", renamed, "other") is None


def test_only_rows_older_than_the_limit_are_deleted(store: Store) -> None:
    for number in range(3):
        record(store, "a", message(str(number)))
    assert store.commit(lambda one: inbox.prune(one, "a", 3600)).result(10) == 0
    assert store.commit(lambda one: inbox.prune(one, "b", -1)).result(10) == 0
    assert store.commit(lambda one: inbox.prune(one, "a", -1)).result(10) == 3


EVENT = Event("x", b"", "e", "k", id="1")


def delivery(name: str) -> DeliveryLifecycle:
    one = DeliveryLifecycle(cast(Any, None), 0.0)
    one.message = message(name)
    return one


def charging(order: str, meanwhile: Callable[[], object] = lambda: None) -> Handler:
    """Return a handler that charges an order and publishes an event."""

    def handle(one: DeliveryLifecycle) -> DeliveryEvent:
        meanwhile()
        one.store.transact(lambda connection: insert_new(connection, CHARGES, charge(order)))
        one.outgoing = [encode(EVENT)]
        return DeliveryEvent.HANDLED

    return handle


def committed(one: DeliveryLifecycle) -> DeliveryEvent:
    done: SimpleQueue[Future[Any]] = SimpleQueue()
    one.until(done.put)
    return one.committed(done.get(timeout=10))


def test_of_two_simultaneous_deliveries_one_is_handled_and_the_other_waits_for_its_outcome(
    database: str, tmp_path: Path
) -> None:
    storage = Storage(database, tmp_path, lambda _: None)
    make_tables(storage.get())
    here, elsewhere = (Deduplication("a", storage, 60.0, EventRouter("a", {"x": ("e", "k")})) for _ in range(2))
    second, again = delivery("m"), threading.Event()
    busy: list[DeliveryEvent] = []
    first = delivery("m")
    handle = here.around(charging("m", lambda: busy.append(handle(second))))
    assert handle(first) is DeliveryEvent.WRITTEN
    assert busy == [DeliveryEvent.BUSY]
    second.until(again.set)
    assert not again.is_set()
    assert committed(first) is DeliveryEvent.COMMITTED
    assert again.is_set()
    second.until(again.clear)
    assert not again.is_set(), "the first one is over, and the second need not wait"
    assert handle(second) is DeliveryEvent.DUPLICATE
    assert [one.event for one in second.outgoing] == [EVENT]
    assert second.is_duplicate
    # The outcome of the other process counts, so this process writes nothing.
    other, late = delivery("n"), delivery("n")
    is_late = here.around(charging("late", lambda: elsewhere.around(charging("n"))(other)))(late)
    assert is_late is DeliveryEvent.WRITTEN
    assert committed(other) is DeliveryEvent.COMMITTED
    assert committed(late) is DeliveryEvent.DUPLICATE
    assert charged(storage.get()) == {"m", "n"}
    assert here.forget() is False
    storage.close(5)


def test_a_message_whose_handler_fails_is_handled_again(database: str, tmp_path: Path) -> None:
    storage = Storage(database, tmp_path, lambda _: None)
    make_tables(storage.get())
    inbox_of_a = Deduplication("a", storage, 60.0, EventRouter("a", {}))

    def fail() -> None:
        raise Retry("later")

    for _ in range(2):
        with pytest.raises(Retry):
            inbox_of_a.around(charging("m", fail))(delivery("m"))
    one = delivery("m")
    assert inbox_of_a.around(charging("m"))(one) is DeliveryEvent.WRITTEN
    assert committed(one) is DeliveryEvent.COMMITTED
    assert charged(storage.get()) == {"m"}
    storage.close(5)


def test_without_an_inbox_a_handler_s_writes_are_committed_too(database: str, tmp_path: Path) -> None:
    storage = Storage(database, tmp_path, lambda _: None)
    make_tables(storage.get())
    without = Deduplication("a", storage, None, EventRouter("a", {}))
    assert without.around(lambda _: DeliveryEvent.HANDLED)(delivery("m")) is DeliveryEvent.HANDLED, "nothing to commit"
    one = delivery("m")
    assert without.around(charging("m"))(one) is DeliveryEvent.WRITTEN
    assert one.store.inbox is False
    assert committed(one) is DeliveryEvent.COMMITTED
    assert charged(storage.get()) == {"m"}
    storage.close(5)


class Broker:
    """A broker that accepts or refuses events."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.problem: str | None = None
        self.refused: set[str] = set()

    def publish(self, event: Event) -> Future[None]:
        future: Future[None] = Future()
        if event.id in self.refused:
            future.set_exception(PublishRefused("full"))
        else:
            self.taken.append(str(event.id))
            future.set_result(None)
        return future


def test_the_relay_publishes_waiting_events_in_order_and_skips_refused_events(store: Store) -> None:
    broker, log = Broker(), logging.getLogger("test")
    broker.refused = {"3"}
    for number in range(10):
        store.commit(partial(put, Event("x", {"n": number}, id=str(number)))).result(10)
    relay = Relay(store, "api", broker.publish, lambda: broker.problem, log)
    wait_until(lambda: len(broker.taken) == 9, 10)
    assert broker.taken == [str(number) for number in range(10) if number != 3]
    wait_until(lambda: outbox.count_waiting(store, "api") == 1, 10, "only confirmed events are marked")
    broker.refused.clear()
    wait_until(lambda: outbox.count_waiting(store, "api") == 0, 10)
    assert broker.taken[-1] == "3"
    relay.stop(5)


def test_of_two_relays_one_works_and_the_other_continues_after_it(store: Store) -> None:
    first, second, log = Broker(), Broker(), logging.getLogger("test")
    one = Relay(store, "api", first.publish, lambda: None, log)
    wait_until(lambda: store.read(select(func.count()).select_from(tables.leases))[0][0] == 1, 10)
    other = Relay(store, "api", second.publish, lambda: None, log)
    for number in range(50):
        store.commit(partial(put, Event("x", b"", id=str(number)))).result(10)
        other.wake()
    wait_until(lambda: len(first.taken) == 50, 10)
    one.stop(5)
    store.commit(partial(put, Event("x", b"", id="last"))).result(10)
    began = time.monotonic()
    wait_until(lambda: second.taken == ["last"], 10)
    assert time.monotonic() - began < in_time(4), "it was notified, and did not wait for the end of the lease"
    other.stop(5)


def test_a_job_that_raises_system_exit_fails_alone(store: Store) -> None:
    def leave(_: Connection) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        store.commit(leave).result(10)
    assert store.commit(partial(insert, "a")).result(10) is True


def test_a_server_that_hangs_is_noticed(tmp_path: Path) -> None:
    server = Postgres()
    try:
        storage = Storage(server.make_database("shop"), tmp_path, lambda _: None)
        make_tables(storage.get())
        store = storage.get()
        assert storage.overdue(time.monotonic() + 100, 1.0) is None, "nothing is asked"
        server.freeze()
        future = store.commit(partial(insert, "a"))
        words = wait_until(lambda: storage.overdue(time.monotonic() + 100, 1.0), 10)
        assert storage.overdue(time.monotonic() + 30, 1.0) is None, "as long as a lock may be waited for"
        assert words.startswith("the database has not answered a commit for 10")
        server.thaw()
        assert future.result(20) is True
        assert storage.overdue(time.monotonic() + 100, 1.0) is None
        storage.close(5)
    finally:
        server.thaw()
        server.close()


def test_a_row_that_is_too_large_for_an_index_fails_alone(postgres: Postgres, tmp_path: Path) -> None:
    store = make_tables(Store(postgres.make_database("long_row"), tmp_path))
    # The text is random, because PostgreSQL compresses repetitions.
    long = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
    bad, good = store.commit(partial(insert, long)), store.commit(partial(insert, "good"))
    with pytest.raises(DBAPIError, match="index row"):
        bad.result(20)
    assert good.result(20) is True
    store.close(5)


@pytest.mark.parametrize("lock", [None, "shop"])
def test_a_slow_statement_finally_fails_and_a_read_only_server_counts_as_unreachable(
    lock: str | None, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "TIMEOUTS", 0.5)
    store = make_tables(Store(postgres.make_database(f"slow_{lock}".lower()), tmp_path))

    def slow(connection: Connection) -> None:
        connection.execute(text("SET LOCAL statement_timeout = 50"))
        connection.execute(text("SELECT pg_sleep(5)"))

    def only_reads(connection: Connection) -> None:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        insert("a", connection)

    with pytest.raises(DBAPIError, match="statement timeout"):
        store.commit(slow, lock=lock).result(20)
    attempts = 0

    def slow_at_first(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        slow(connection) if attempts < 3 else insert("patient", connection)

    store.commit(slow_at_first, lock=lock).result(20)
    assert (attempts, charged(store)) == (3, {"patient"})
    with pytest.raises(StoreUnreachable, match="read-only"):
        store.commit(only_reads, timeout=0.1, lock=lock).result(20)
    store.close(5)


def test_a_closed_store_refuses_jobs(tmp_path: Path) -> None:
    store = make_tables(Store("sqlite:///a.db", tmp_path))
    assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o600
    store.close(5)
    with pytest.raises(StoreUnreachable, match="closed"):
        store.commit(partial(insert, "a")).result(5)


def test_an_error_in_the_listener_for_outages_loses_no_later_job(tmp_path: Path) -> None:
    def fails(_: str | None) -> None:
        raise RuntimeError("a bug of who listens")

    store, other = make_tables(Store("sqlite:///a.db", tmp_path, fails)), Store("sqlite:///a.db", tmp_path)
    with other.engine.begin(), pytest.raises(RuntimeError):
        store.commit(partial(insert, "a")).result(20)
    assert store.commit(partial(insert, "b")).result(10) is True
    store.close(5)
    other.close(5)
