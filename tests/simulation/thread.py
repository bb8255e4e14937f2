"""Threads that take turns when they wait: greenlets on one real thread, woken by the virtual clock.

The code under test gets these threads from its runtime. Its work between two waits is one step, as if nothing else
had happened in between.
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
        #: The current wait. A late wake-up for an earlier wait has no effect.
        self.wait: object | None = None
        owner.threads.append(self)

    def start(self) -> None:
        """Start soon."""
        self.wait = begun = object()
        self.turns.clock.after(0.0, lambda: self.wake(begun))

    def wake(self, wait: object) -> None:
        """Continue, if the thread is still in that wait. Only the thread of the simulation may call this."""
        if self.wait is wait and self.owner.alive:
            self.wait = None
            self.switch()

    def end(self) -> None:
        """Unwind the thread, because its process has exited."""
        self.wait = None
        if not self.dead:
            self.throw(GreenletExit)


class Turns:
    """The scheduler of the threads."""

    def __init__(self, clock: Clock, history: History) -> None:
        self.clock, self.history = clock, history
        self._hub = getcurrent()

    def sleep(self, seconds: float) -> None:
        """Let other threads run for a number of virtual seconds."""
        self.pause(seconds, [])

    def pause(self, timeout: float | None, waiters: list[tuple[Thread, object]] | deque[tuple[Thread, object]]) -> None:
        """Wait as one of ``waiters`` until woken, at most ``timeout`` seconds."""
        thread = getcurrent()
        if not isinstance(thread, Thread):
            self.history.fail("no wait on the I/O thread", "a callback of the loop or of a future must not wait")
        assert isinstance(thread, Thread)
        if not thread.owner.alive:
            raise GreenletExit
        thread.wait = wait = object()
        waiters.append((thread, wait))
        if timeout is not None:
            self.clock.after(timeout, lambda: thread.wake(wait))
        self._hub.switch()

    def wake(self, waiters: list[tuple[Thread, object]] | deque[tuple[Thread, object]]) -> None:
        """Wake all waiters soon."""
        for thread, wait in waiters:
            self.clock.after(0.0, partial(thread.wake, wait))
        waiters.clear()


class Condition:
    """The used part of ``threading.Condition``. Its lock is never held during a wait for something else."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._waiters: list[tuple[Thread, object]] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until ``predicate`` is true or ``timeout`` is over."""
        deadline = None if timeout is None else self._turns.clock.now + timeout
        while not predicate():
            left = None if deadline is None else deadline - self._turns.clock.now
            if left is not None and left <= 0:
                return False
            self._turns.pause(left, self._waiters)
        return True

    def notify_all(self) -> None:
        """Make all waiters check their predicates again."""
        self._turns.wake(self._waiters)


class Room(WindowPlaces):
    """The window of a publisher, which reports its use."""

    def __init__(self, turns: Turns, places: int) -> None:
        condition: Any = Condition(turns)
        super().__init__(places, condition)
        self._history = turns.history

    def acquire(self, timeout: float) -> bool:
        """Take a place. Return False if none becomes free in time."""
        if not self._free:
            self._history.hit("a handler waits for room in the window")
        return super().acquire(timeout)

    def release(self) -> None:
        """Release a place."""
        if len(self._free) >= self.places:
            self._history.fail("window places", "released more often than acquired")
        super().release()


class SimpleQueue:
    """The replacement of ``queue.SimpleQueue``."""

    def __init__(self, turns: Turns, delay: Callable[[], float]) -> None:
        """Set ``delay``, which draws the seconds that a thread needs before it uses an item."""
        self._turns, self._delay = turns, delay
        self._items: deque[Any] = deque()
        self._condition = Condition(turns)

    def put(self, item: Any) -> None:
        """Add an item without waiting."""
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
        """Set ``slowness``, which draws the seconds that a thread needs before it starts."""
        self._turns, self._owner, self.call_later, self._slowness = turns, owner, call_later, slowness

    def monotonic(self) -> float:
        """Return the virtual time."""
        return self._turns.clock.now

    def condition(self) -> Any:
        """Return a condition that lets other threads run."""
        return Condition(self._turns)

    def queue(self) -> Any:
        """Return a queue that lets other threads run."""
        return SimpleQueue(self._turns, self._slowness)

    def crash(self) -> None:
        """Make the run fail."""
        error = sys.exception()
        assert error is not None
        raise error

    def start(self, name: str, target: Callable[[], None]) -> None:
        """Start a virtual thread."""

        def run() -> None:
            try:
                target()
            except Exception as error:  # in the product, an error of the thread would end the process
                self._turns.history.fail("handler threads", f"{name} failed with {error!r}")

        Thread(self._turns, self._owner, run, ()).start()
