"""The window of a publisher: places, and those who wait for one."""

import threading
import time

from runner.amqp.confirms_and_returns import WindowPlaces
from tests.rabbit import wait_until


def test_as_many_places_are_given_as_there_are():
    window = WindowPlaces(3)
    assert [window.acquire(0.0) for _ in range(4)] == [True, True, True, False]
    window.release()
    assert [window.acquire(0.0) for _ in range(2)] == [True, False]


def test_one_who_waits_is_let_go_on_by_the_wake_after_a_release():
    window, taken = WindowPlaces(1), []
    assert window.acquire(0.0)
    # For longer than the test lets it: at the end of its time it would find the place without being woken.
    thread = threading.Thread(target=lambda: taken.append(window.acquire(600.0)), daemon=True)
    thread.start()
    wait_until(lambda: window._waiting)
    window.release()
    window.wake()
    thread.join(20)
    assert taken == [True]


def test_a_place_that_nobody_was_woken_for_is_found_when_the_time_is_over():
    window, taken = WindowPlaces(1), []
    assert window.acquire(0.0)
    thread = threading.Thread(target=lambda: taken.append(window.acquire(0.2)))
    thread.start()
    wait_until(lambda: window._waiting)
    window.release()
    thread.join(30)
    assert taken == [True]


def test_many_threads_never_hold_more_places_than_there_are_and_none_waits_for_ever():
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
