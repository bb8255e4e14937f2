"""Handlers that decide in their message's transaction: check-then-write, undone writes, and the service's outbox."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, func, insert, select, update

from runner.contract import OwnedTables, Tables
from runner.errors import PluginError, StoreUnreachable
from runner.messages import BadOutcome, Event, Message, Reject, Retry, TransactionResult
from runner.store.outbox import EventOutbox
from runner.store.process_store import Store
from runner.worker.deduplication import Deduplication
from runner.worker.delivery import DeliveryEvent, DeliveryLifecycle
from runner.worker.event_routing import EventRouter
from runner.worker.handler import PluginHandler
from runner.worker.storage import DeliveryStore, Storage
from tests.rabbit import wait_until

METADATA = MetaData()
STOCK = Table("stock", METADATA, Column("item", Text, primary_key=True), Column("pieces", Integer, nullable=False))
LOG = Table("stock_log", METADATA, Column("message", Text, nullable=False))
OWNED = OwnedTables("stock", Tables(METADATA))
ROUTER = EventRouter("stock", {"reserved": ("e", "reserved")})
Call = Callable[[Message, DeliveryStore], object]


@pytest.fixture
def storages(database: str, tmp_path: Path) -> Iterator[list[Storage]]:
    """Yield the stores of two processes, with a stock of ten cups."""
    two = [Storage(database, tmp_path, lambda _: None, OWNED, "stock") for _ in range(2)]
    two[0].get().commit(lambda one: one.execute(insert(STOCK), {"item": "cup", "pieces": 10})).result(10)
    yield two
    for one in two:
        one.close(5)


def pieces(storage: Storage) -> int:
    return int(storage.get().read(select(STOCK.c.pieces))[0][0])


def reserve(message: Message, store: DeliveryStore) -> TransactionResult:
    """Reserve three cups if there are at least three, like a beginner's handler."""

    def take(connection: Connection) -> Event:
        left = connection.scalar(select(STOCK.c.pieces).where(STOCK.c.item == "cup")) or 0
        if left < 3:
            raise Reject(f"only {left} left")
        connection.execute(update(STOCK).where(STOCK.c.item == "cup").values(pieces=left - 3))
        return Event("reserved", {"left": left - 3})

    return store.transact(take)


def outcome_of(service: Deduplication, call: Call, name: str) -> tuple[DeliveryEvent | str, list[bytes]]:
    """Handle a message as a worker does. Return the last event of its delivery, and the bodies of its events."""
    one = DeliveryLifecycle(cast(Any, None), 0.0)
    one.message = Message(b"{}", "orders", id=name)
    try:
        event = service.around(PluginHandler("stock", ROUTER, call))(one)
        if event is DeliveryEvent.WRITTEN:
            done: Future[Any] = Future()
            one.until(done.set_result)
            event = one.committed(done.result(30))
    except (PluginError, Reject, Retry, ValueError) as error:
        return f"{type(error).__name__}: {error}", []
    return event, [encoded.event.encoded() for encoded in one.outgoing]


@pytest.mark.parametrize("inbox", [None, 60.0], ids=["without inbox", "with inbox"])
def test_twelve_orders_of_three_pieces_reserve_nine_of_ten_pieces(inbox: float | None, storages: list[Storage]) -> None:
    services = [Deduplication("stock", one, inbox, ROUTER) for one in storages]

    def handle(number: int) -> tuple[DeliveryEvent | str, list[bytes]]:
        return outcome_of(services[number % 2], reserve, f"m{number}")

    with ThreadPoolExecutor(8) as threads:  # a concurrency of 4 in each of two processes
        found = list(threads.map(handle, range(12)))
    events = sorted(body for _, bodies in found for body in bodies)
    assert events == [b'{"left":1}', b'{"left":4}', b'{"left":7}']
    assert [outcome for outcome, _ in found].count("Reject: only 1 left") == 9
    assert pieces(storages[0]) == 1
    if inbox is None:
        return
    for number, (outcome, bodies) in enumerate(found):
        again = handle(number)
        assert again == ((DeliveryEvent.DUPLICATE, bodies) if bodies else (outcome, []))
    assert pieces(storages[0]) == 1


def raising(error: Exception) -> Call:
    def handle(message: Message, store: DeliveryStore) -> TransactionResult:
        store.execute(insert(LOG), {"message": message.id})

        def decide(connection: Connection) -> Event:
            connection.execute(update(STOCK).values(pieces=0))
            raise error

        return store.transact(decide)

    return handle


def returning(outcome: Any) -> Call:
    def handle(message: Message, store: DeliveryStore) -> TransactionResult:
        def decide(connection: Connection) -> Any:
            connection.execute(update(STOCK).values(pieces=0))
            return outcome

        return store.transact(decide)

    return handle


OTHER = DeliveryStore(Storage("sqlite:///none.db", Path(), lambda _: None), inbox=False)


@pytest.mark.parametrize("inbox", [None, 60.0], ids=["without inbox", "with inbox"])
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (raising(Reject("sold out")), "Reject: sold out"),
        (raising(Retry("later")), "Retry: later"),
        (raising(ValueError("a bug")), "ValueError: a bug"),
        (returning(Event("unknown", {})), "PluginError: services.stock.publishes: event 'unknown' is missing"),
        (returning(Event("reserved", {"price": float("nan")})), "ValueError"),
        (returning("done"), "BadOutcome: handle: returned 'done'; allowed: an Event"),
        (
            lambda *_: OTHER.transact(lambda _: None),
            "BadOutcome: handle: returned the store.transact result of another",
        ),
    ],
    ids=["rejected", "retried", "failed", "not published", "not JSON", "no event", "another store's"],
)
def test_an_error_in_a_decision_undoes_only_its_message_s_writes(
    call: Call, words: str, inbox: float | None, storages: list[Storage]
) -> None:
    service, store = Deduplication("stock", storages[0], inbox, ROUTER), storages[0].get()
    gate = threading.Event()
    held = store.commit(lambda _: gate.wait(10))
    with ThreadPoolExecutor(3) as threads:  # so that all messages share a transaction
        first = threads.submit(outcome_of, service, reserve, "first")
        failed = threads.submit(outcome_of, service, call, "failed")
        last = threads.submit(outcome_of, service, reserve, "last")
        gate.set()
        assert held.result(10)
        assert first.result(10)[0] is last.result(10)[0] is DeliveryEvent.COMMITTED
        said, bodies = failed.result(10)
    assert str(said).startswith(words)
    assert bodies == []
    assert pieces(storages[0]) == 4
    assert store.read(select(func.count()).select_from(LOG))[0][0] == 0
    # The message is no duplicate, and its next attempt can succeed.
    assert outcome_of(service, reserve, "failed") == (DeliveryEvent.COMMITTED, [b'{"left":1}'])


def test_a_handler_that_ignores_its_transaction_s_result_publishes_its_own_event(
    storages: list[Storage],
) -> None:
    def handle(message: Message, store: DeliveryStore) -> Event:
        reserve(message, store)
        return Event("reserved", "mine")

    service = Deduplication("stock", storages[0], 60.0, ROUTER)
    assert outcome_of(service, handle, "m") == (DeliveryEvent.COMMITTED, [b'"mine"'])
    assert pieces(storages[0]) == 7


class Broker:
    """A broker that confirms events or is unreachable."""

    def __init__(self) -> None:
        self.problem: str | None = "unreachable"
        self.published: list[Event] = []

    def publish(self, event: Event) -> Future[None]:
        self.published.append(event)
        future: Future[None] = Future()
        future.set_result(None)
        return future


def outbox_of(store: Store, broker: Broker) -> EventOutbox:
    log = logging.getLogger("test")
    return EventOutbox(
        store, "stock", "stock", lambda one: ROUTER.routed(one, one.body), broker.publish, lambda: broker.problem, log
    )


def returning_it(outcome: Any, _: Connection) -> Any:
    return outcome


def test_rows_and_events_of_a_loop_are_committed_together_and_published_by_the_next_process_too(
    storages: list[Storage],
) -> None:
    broker = Broker()
    outbox = outbox_of(storages[0].get(), broker)

    def take(body: str, left: int) -> Callable[[Connection], Event]:
        def work(connection: Connection) -> Event:
            connection.execute(update(STOCK).values(pieces=left))
            if left < 0:
                raise Reject("sold out")
            return Event("reserved" if left else "unknown", body)

        return work

    (event,) = outbox.transact(take("a", 5)).result(10)
    assert (event.exchange, event.id) == ("e", "a")
    for work, error in ((take("b", -1), Reject), (take("c", 0), PluginError)):
        with pytest.raises(error):
            outbox.transact(work).result(10)
    wrong: list[Any] = ["done", 5, ["done"], [None], iter([])]
    for one in wrong:
        with pytest.raises(BadOutcome, match=r"outbox\.transact: returned .*; allowed: an Event, a list of Events, or"):
            outbox.transact(partial(returning_it, one)).result(10)
    assert outbox.transact(lambda _: None).result(10) == []
    assert outbox.waiting() == 1
    assert pieces(storages[0]) == 5
    outbox.stop(5)
    assert broker.published == []
    broker.problem = None
    following = outbox_of(storages[1].get(), broker)
    wait_until(lambda: following.waiting() == 0, 20, "the event is published")
    assert [one.id for one in broker.published] == ["a"]
    following.transact(take("d", 4)).result(10)
    wait_until(lambda: [one.id for one in broker.published] == ["a", "d"], 20, "the next one is published at once")
    following.stop(5)
    storages[1].close(5)
    with pytest.raises(StoreUnreachable):
        following.transact(take("e", 3)).result(10)
