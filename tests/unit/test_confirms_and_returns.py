"""The outcomes of messages that are published with confirms, and the window places of a publisher."""

from __future__ import annotations

import threading
import time
import weakref
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.amqp.confirms_and_returns import ConfirmWindow, WindowPlaces
from runner.errors import BrokerError, PublishRefused, Unroutable
from tests.rabbit import wait_until


class Published:
    """A window of messages that are published by their ids."""

    def __init__(self, *places: tuple[str, str, str]) -> None:
        self.outcomes: list[tuple[int, type[BrokerError] | None]] = []
        self.late: list[tuple[tuple[str, str, str], type[BrokerError] | None]] = []
        self.rounds = 0
        self.window: ConfirmWindow[int] = ConfirmWindow(
            lambda note, error: self.outcomes.append((note, None if error is None else type(error))),
            self._count,
            lambda place, error: self.late.append((place, None if error is None else type(error))),
        )
        channel: Any = SimpleNamespace(basic_publish=lambda *_, **__: None)
        self.window.use(channel)
        for number, place in enumerate(places, 1):
            self.window.publish(number, place, b"", pika.BasicProperties())

    def _count(self) -> None:
        self.rounds += 1

    def confirm(self, number: int, *, multiple: bool = False, is_refused: bool = False) -> None:
        kind = pika.spec.Basic.Nack if is_refused else pika.spec.Basic.Ack
        self.window.on_confirm(SimpleNamespace(method=kind(number, multiple)))

    def give_back(self, identity: str, exchange: str, routing_key: str) -> None:
        channel: Any = None
        method = pika.spec.Basic.Return(312, "NO_ROUTE", exchange, routing_key)
        self.window.on_return(channel, method, pika.BasicProperties(message_id=identity or None), b"")


A, B, C = (("a", "shop", "x"), ("b", "shop", "x"), ("c", "shop", "y"))


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans(), st.booleans()), max_size=30))
def test_each_message_has_the_outcome_of_the_first_frame_that_names_it(
    frames: list[tuple[int, bool, bool]],
) -> None:
    one = Published(*[(str(number), "shop", "x") for number in range(1, 11)])
    expected: dict[int, type[BrokerError] | None] = {}
    for number, multiple, is_refused in frames:
        one.confirm(number, multiple=multiple, is_refused=is_refused)
        for named in range(1, number + 1) if multiple else [number]:
            if named <= 10:
                expected.setdefault(named, PublishRefused if is_refused else None)
    assert dict(one.outcomes) == expected
    assert len(one.outcomes) == len(expected)
    assert len(one.window) == 10 - len(expected)
    assert one.rounds == len(frames)


@pytest.mark.parametrize(
    ("places", "returned", "failed"),
    [
        ([A, B, C], A, [1]),
        ([A, B, A], A, [1, 3]),
        ([A, C, B], C, [2]),
        ([("a", "other", "x"), A], A, [2]),
        ([("", "shop", "x"), A], ("", "shop", "x"), [1]),
    ],
)
def test_a_return_through_an_exchange_belongs_to_the_same_id_exchange_and_key(
    places: list[tuple[str, str, str]], returned: tuple[str, str, str], failed: list[int]
) -> None:
    one = Published(*places)
    one.give_back(*returned)
    one.confirm(len(places), multiple=True)
    assert [number for number, error in one.outcomes if error is Unroutable] == failed
    assert sorted(number for number, _ in one.outcomes) == [*range(1, len(places) + 1)]


@pytest.mark.parametrize("identity", ["", "a", "b", "unknown"])
def test_no_unconfirmed_message_to_a_deleted_queue_counts_as_confirmed(identity: str) -> None:
    one = Published(("", "", "gone"), ("a", "", "gone"), ("", "", "there"), ("", "", "gone"))
    one.confirm(1)
    one.give_back(identity, "", "gone")
    one.confirm(4, multiple=True)
    assert one.outcomes == [(1, None), (2, Unroutable), (4, Unroutable), (3, None)]


def published_again(place: tuple[str, str, str]) -> Published:
    """Return a window in which message 1 was given up and is published again as number 2."""
    one = Published(place)
    assert one.window.give_up(lambda number: number == 1) == [1]
    one.window.publish(2, place, b"", pika.BasicProperties())
    return one


def test_the_return_of_a_given_up_message_does_not_concern_the_next_publish() -> None:
    one = published_again(A)
    one.give_back(*A)
    one.confirm(2, multiple=True)
    assert (one.late, one.outcomes) == ([(A, Unroutable)], [(2, None)])


@pytest.mark.parametrize(
    ("frames", "late", "outcome"),
    [
        # The first publish waits for its queue, and the second one is returned.
        ([("return",), (2, False, False)], [], Unroutable),
        ([("return",), (2, False, False), (1, False, False)], [(A, None)], Unroutable),
        ([("return",), (2, False, False), (1, False, True)], [(A, PublishRefused)], Unroutable),
        ([("return",), (1, False, True), (2, False, False)], [(A, PublishRefused)], Unroutable),
        ([(1, False, False), ("return",), (2, False, False)], [(A, None)], Unroutable),
        ([(1, False, True), ("return",), (2, False, False)], [(A, PublishRefused)], Unroutable),
        # Only the first publish is returned.
        ([("return",), (1, False, False), (2, False, False)], [(A, Unroutable)], None),
        ([("return",), (1, False, False), (2, False, True)], [(A, Unroutable)], PublishRefused),
        # Both publishes are returned.
        ([("return",), ("return",), (2, True, False)], [(A, Unroutable)], Unroutable),
        ([("return",), (1, False, False), ("return",), (2, False, False)], [(A, Unroutable)], Unroutable),
    ],
)
def test_a_returned_message_never_counts_as_confirmed_because_the_same_message_was_given_up(
    frames: list[tuple[Any, ...]], late: list[Any], outcome: type[BrokerError] | None
) -> None:
    one = published_again(A)
    for frame in frames:
        if frame == ("return",):
            one.give_back(*A)
        else:
            number, multiple, is_refused = frame
            one.confirm(number, multiple=multiple, is_refused=is_refused)
    assert (one.late, one.outcomes) == (late, [(2, outcome)])


@pytest.mark.parametrize("given_up", [("a", "", "gone"), ("b", "", "gone"), ("", "", "gone")])
def test_a_return_from_a_deleted_queue_counts_beside_given_up_messages(
    given_up: tuple[str, str, str],
) -> None:
    one = Published(given_up, ("a", "", "gone"), ("c", "", "gone"), ("d", "", "there"))
    one.window.give_up(lambda number: number == 1)
    one.give_back("a", "", "gone")
    one.confirm(4, multiple=True)
    assert one.late == [(given_up, Unroutable)]
    assert one.outcomes == [(2, Unroutable), (3, Unroutable), (4, None)]


def test_a_confirm_does_not_search_the_given_up_messages() -> None:
    many, some = 30_000, 3_000
    one = Published(*[(str(number), "shop", "stuck") for number in range(many)])
    one.window.give_up(lambda _: True)
    for number in range(many + 1, many + some + 1):
        one.window.publish(number, A, b"", pika.BasicProperties())
    began = time.process_time()
    for number in range(many + 1, many + some + 1):
        one.confirm(number)
    assert time.process_time() - began < 1
    assert (len(one.outcomes), one.late) == (some, [])


def test_a_window_keeps_no_body_of_a_given_up_message() -> None:
    class Note:
        pass

    window: ConfirmWindow[Note] = ConfirmWindow(lambda *_: None)
    channel: Any = SimpleNamespace(basic_publish=lambda *_, **__: None)
    window.use(channel)
    notes = [Note() for _ in range(3)]
    for note in notes:
        window.publish(note, A, b"", pika.BasicProperties())
    window.give_up(lambda _: True)
    kept = [weakref.ref(note) for note in notes]
    del note
    notes.clear()
    assert [one() for one in kept] == [None, None, None]


def test_messages_that_were_given_up_in_any_order_get_their_late_confirms() -> None:
    one = Published(A, B, C)
    for number in (3, 1):
        one.window.give_up(lambda note, number=number: note == number)  # type: ignore[misc]
    one.confirm(3, multiple=True)
    assert (sorted(one.late), one.outcomes) == ([(A, None), (C, None)], [(2, None)])


def test_a_closed_channel_leaves_no_outcome_and_numbers_start_again_on_the_next() -> None:
    one = Published(A, B)
    assert one.window.clear() == [1, 2]
    channel: Any = SimpleNamespace(basic_publish=lambda *_, **__: None)
    one.window.use(channel)
    one.window.publish(7, C, b"", pika.BasicProperties())
    one.confirm(1)
    assert one.outcomes == [(7, None)]


class Broker:
    """A broker that returns and confirms an unroutable message before the messages that wait for a queue."""

    def __init__(self) -> None:
        self.one = Published()
        self.is_bound = True
        #: The numbers and queues of messages that wait for their queue, and of messages that are certainly in it.
        self.waiting: dict[int, tuple[str, str, str]] = {}
        self.safe: set[tuple[str, str, str]] = set()
        self.places: dict[int, tuple[str, str, str]] = {}
        self.due: list[int] = []

    def publish(self, place: tuple[str, str, str]) -> None:
        number = len(self.places) + 1
        self.places[number] = place
        self.one.window.publish(number, place, b"", pika.BasicProperties())
        if self.is_bound:
            self.waiting[number] = place
        else:
            self.one.give_back(*place)
            self.due.append(number)

    def write(self, number: int) -> None:
        """Confirm a message that its queue has written, alone or with all messages before it."""
        self.confirm_returned()
        self.safe.add(self.waiting.pop(number))
        self.check(number, multiple=not any(one < number for one in self.waiting))

    def refuse(self, number: int) -> None:
        self.confirm_returned()
        del self.waiting[number]
        self.check(number, is_refused=True)

    def confirm_returned(self) -> None:
        due, self.due = self.due, []
        for number in due:
            self.check(number, multiple=not any(one < number for one in self.waiting))

    def check(self, number: int, **how: bool) -> None:
        self.one.confirm(number, **how)
        confirmed = {self.places[note] for note, error in self.one.outcomes if error is None}
        assert confirmed <= self.safe, "an event counts as confirmed, but no queue has it"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["publish", "publish", "give up", "bind", "write", "refuse", "confirm"]), st.integers(0, 20)
        ),
        min_size=5,
        max_size=12,
    )
)
@settings(max_examples=400, deadline=None)
def test_an_event_never_counts_as_confirmed_before_a_queue_has_it(steps: list[tuple[str, int]]) -> None:
    broker = Broker()
    for step, number in steps:
        if step == "publish":
            broker.publish((A, C)[number % 2])
        elif step == "give up":
            broker.one.window.give_up(lambda note, number=number: note > number % 4)  # type: ignore[misc]
        elif step == "bind":
            broker.is_bound = not broker.is_bound
        elif step == "confirm":
            broker.confirm_returned()
        elif broker.waiting:
            waiting = sorted(broker.waiting)
            (broker.write if step == "write" else broker.refuse)(waiting[number % len(waiting)])
    broker.confirm_returned()
    for left in sorted(broker.waiting):
        broker.write(left)
    assert len(broker.one.window) == 0, "each has its outcome"


def test_no_more_places_are_given_than_exist():
    window = WindowPlaces(3)
    assert [window.acquire(0.0) for _ in range(4)] == [True, True, True, False]
    window.release()
    assert [window.acquire(0.0) for _ in range(2)] == [True, False]


def test_a_waiting_thread_is_woken_after_a_release():
    window, taken = WindowPlaces(1), []
    assert window.acquire(0.0)
    # For longer than the test waits: at the timeout the thread would find the place without being woken.
    thread = threading.Thread(target=lambda: taken.append(window.acquire(600.0)), daemon=True)
    thread.start()
    wait_until(lambda: window._waiting)
    window.release()
    window.wake()
    thread.join(20)
    assert taken == [True]


def test_a_free_place_without_a_wake_up_is_found_at_the_timeout():
    window, taken = WindowPlaces(1), []
    assert window.acquire(0.0)
    thread = threading.Thread(target=lambda: taken.append(window.acquire(0.2)))
    thread.start()
    wait_until(lambda: window._waiting)
    window.release()
    thread.join(30)
    assert taken == [True]


def test_many_threads_never_use_more_places_than_exist_and_none_waits_forever():
    window, held, most, lock = WindowPlaces(5), 0, 0, threading.Lock()
    given = threading.Semaphore(0)
    is_over = threading.Event()

    def work():
        nonlocal held, most
        for _ in range(300):
            assert window.acquire(30.0)
            with lock:
                held += 1
                most = max(most, held)
            given.release()

    def give_back():
        nonlocal held
        while not is_over.is_set():
            while given.acquire(timeout=0.001):
                with lock:
                    held -= 1
                window.release()
            window.wake()

    threads = [threading.Thread(target=work) for _ in range(8)]
    giver = threading.Thread(target=give_back)
    for thread in (*threads, giver):
        thread.start()
    deadline = time.monotonic() + 60
    for thread in threads:
        thread.join(deadline - time.monotonic())
    is_over.set()
    giver.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert most <= 5
