"""Threads that take turns when they wait: greenlets on one real thread, woken by the virtual clock.

The code under test gets these from its runtime. Whatever it does between two waits is one step, as if nothing had
happened in between.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from greenlet import GreenletExit, getcurrent, greenlet  # type: ignore[import-untyped]

from runner.amqp.confirms_and_returns import WindowPlaces
from runner.worker.runtime import Runtime
from tests.simulation.clock import Clock
from tests.simulation.history import History


class Owner(Protocol):
    """The process that a thread ends with."""

    alive: bool
    threads: list[Thread]


class Thread(greenlet):  # type: ignore[misc]
    """One thread of a process."""

    def __init__(self, turns: Turns, owner: Owner, target: Callable[..., object], args: Sequence[Any]) -> None:
        super().__init__(lambda: target(*args))
        self.turns, self.owner = turns, owner
        #: Which wait it is in, so that what comes too late for one wakes no other.
        self.wait: object | None = None
        owner.threads.append(self)

    def start(self) -> None:
        """Begin soon."""
        self.wait = begun = object()
        self.turns.clock.after(0.0, lambda: self.wake(begun))

    def wake(self, wait: object) -> None:
        """Go on, if it is still in that wait; from the thread of the simulation itself."""
        if self.wait is wait and self.owner.alive:
            self.wait = None
            self.switch()

    def end(self) -> None:
        """Unwind it, as its process is no more."""
        self.wait = None
        if not self.dead:
            self.throw(GreenletExit)


class Turns:
    """Whose turn it is."""

    def __init__(self, clock: Clock, history: History) -> None:
        self.clock, self.history = clock, history
        self._hub = getcurrent()

    def sleep(self, seconds: float) -> None:
        """Let others have their turn for so many virtual seconds."""
        self.pause(seconds, [])

    def pause(self, timeout: float | None, waiters: list[tuple[Thread, object]] | deque[tuple[Thread, object]]) -> None:
        """Wait until woken as one of ``waiters``, at most ``timeout`` seconds."""
        thread = getcurrent()
        if not isinstance(thread, Thread):
            self.history.fail("no wait on the I/O thread", "a callback of the loop or of a future waits")
        assert isinstance(thread, Thread)
        if not thread.owner.alive:
            raise GreenletExit
        thread.wait = wait = object()
        waiters.append((thread, wait))
        if timeout is not None:
            self.clock.after(timeout, lambda: thread.wake(wait))
        self._hub.switch()

    def wake(self, waiters: list[tuple[Thread, object]] | deque[tuple[Thread, object]]) -> None:
        """Wake all of them soon."""
        for thread, wait in waiters:
            self.clock.after(0.0, partial(thread.wake, wait))
        waiters.clear()


class Condition:
    """``threading.Condition``, as far as it is used; its lock is never held over a wait of another kind."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._waiters: list[tuple[Thread, object]] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Until ``predicate`` holds, or the time is over."""
        deadline = None if timeout is None else self._turns.clock.now + timeout
        while not predicate():
            left = None if deadline is None else deadline - self._turns.clock.now
            if left is not None and left <= 0:
                return False
            self._turns.pause(left, self._waiters)
        return True

    def notify_all(self) -> None:
        """Have all look again."""
        self._turns.wake(self._waiters)


class Room(WindowPlaces):
    """The window of a publisher; it is seen how it is used."""

    def __init__(self, turns: Turns, places: int) -> None:
        condition: Any = Condition(turns)
        super().__init__(places, condition)
        self._history = turns.history

    def acquire(self, timeout: float) -> bool:
        """Take a place, or False when the time is over."""
        if not self._free:
            self._history.hit("a handler waits for room in the window")
        return super().acquire(timeout)

    def release(self) -> None:
        """Give it back."""
        if len(self._free) >= self.places:
            self._history.fail("window places", "released more often than taken")
        super().release()


class SimpleQueue:
    """``queue.SimpleQueue``."""

    def __init__(self, turns: Turns, delay: Callable[[], float]) -> None:
        """``delay`` draws how long a thread takes to get going with what it got, in seconds."""
        self._turns, self._delay = turns, delay
        self._items: deque[Any] = deque()
        self._condition = Condition(turns)

    def put(self, item: Any) -> None:
        """Never waits."""
        self._items.append(item)
        self._condition.notify_all()

    def get(self) -> Any:
        """Wait for an item."""
        self._condition.wait_for(lambda: bool(self._items))
        item = self._items.popleft()
        if item is not None and (delay := self._delay()):
            self._turns.sleep(delay)
        return item


class VirtualRuntime(Runtime):
    """The threads and the clock of one process."""

    def __init__(
        self, turns: Turns, owner: Owner, call_later: Callable[[float, Callable[[], None]], None],
        slowness: Callable[[], float],
    ) -> None:  # fmt: skip
        """``slowness`` draws how long a thread takes to get going, in seconds."""
        self._turns, self._owner, self.call_later, self._slowness = turns, owner, call_later, slowness

    def monotonic(self) -> float:
        """The virtual time."""
        return self._turns.clock.now

    def condition(self) -> Any:
        """A condition that lets others have their turn."""
        return Condition(self._turns)

    def queue(self) -> Any:
        """A queue that lets others have their turn."""
        return SimpleQueue(self._turns, self._slowness)

    def crash(self) -> None:
        """Let the run fail."""
        error = sys.exception()
        assert error is not None
        raise error

    def start(self, name: str, target: Callable[[], None]) -> None:
        """Start a virtual thread."""

        def run() -> None:
            try:
                target()
            except Exception as error:  # the thread's, which would end the process
                self._turns.history.fail("handler threads", f"{name} ended by {error!r}")

        Thread(self._turns, self._owner, run, ()).start()
