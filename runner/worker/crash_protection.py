"""Protection from crashing messages, which are handled alone and dead-lettered after ``max_crashes`` crashes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from runner.ipc.crashing_messages import CrashingMessage, CrashingMessages
from runner.ipc.shared_memory import CurrentMessage, SharedMemory
from runner.messages import Message, Reject
from runner.worker.delivery import DeliveryEvent, DeliveryLifecycle
from runner.worker.handler import Handler

#: The longest time that the supervisor needs to notice a worker's death, in seconds. Only crashing messages wait this
#: long.
NOTICE_TIME = 0.2
#: The largest replay count that fits into shared memory.
MOST_REPLAYS = 2**32 - 1


class Crashed(Reject):
    """The error for a message that has crashed ``max_crashes`` workers."""

    def __init__(self, crashing: CrashingMessage) -> None:
        super().__init__(f"the message crashed its worker {crashing.times}, {crashing.reason}")
        self.crashing = crashing


class CrashProtection:
    """A wrapper that records each handler thread's current message in shared memory.

    After a crash, the supervisor reads the shared memory to find the messages that were being handled.
    """

    def __init__(
        self,
        memory: SharedMemory,
        crashing_messages: CrashingMessages,
        max_crashes: int,
        concurrency: int,
        condition: Callable[[], threading.Condition] = threading.Condition,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """``sleep`` blocks the calling thread for a number of seconds."""
        self._memory, self._crashing_messages = memory, crashing_messages
        self._max_crashes, self._sleep = max_crashes, sleep
        self._turn = Turn(condition()) if concurrency > 1 else None

    def around(self, handler: Handler) -> Handler:
        """Return a handler that records its message.

        After ``max_crashes`` crashes of a message, the handler raises Crashed.
        """

        def protected(one: DeliveryLifecycle) -> DeliveryEvent:
            with self.at(one.thread, one.message):
                return handler(one)

        return protected

    def at(self, thread: int, message: Message) -> AbstractContextManager[None]:
        """Return a context manager that records the current message of a handler thread.

        ``thread`` is the number of the thread, counted from 0. Entering the context can raise Crashed.
        """
        one = CurrentMessage(message.queue, message.id, min(message.replays, MOST_REPLAYS))
        if self._turn is None and self._crashing_messages.get(one) is None:
            return _Noted(self._memory, thread, one)
        return self._in_turn(thread, one)

    @contextmanager
    def _in_turn(self, thread: int, one: CurrentMessage) -> Iterator[None]:
        """Record the message after waiting for its turn, alone or alongside other messages."""
        is_alone = self._needs_isolation(one)
        while True:
            with self._beside_others(is_alone=is_alone):
                if is_alone:
                    # The broker may redeliver the message before the supervisor notices the crash.
                    self._sleep(NOTICE_TIME)
                # Read after the wait, because another delivery of the message may have crashed a worker in the
                # meantime.
                crashing = self._crashing_messages.get(one)
                if crashing is not None and crashing.deaths >= self._max_crashes:
                    raise Crashed(crashing)
                if is_alone or crashing is None or not crashing.needs_isolation:
                    with _Noted(self._memory, thread, one):
                        yield
                    return
            is_alone = True

    def _needs_isolation(self, one: CurrentMessage) -> bool:
        crashing = self._crashing_messages.get(one)
        return crashing is not None and crashing.needs_isolation

    def _beside_others(self, *, is_alone: bool) -> AbstractContextManager[None]:
        if self._turn is None:
            return nullcontext()
        return self._turn.alone() if is_alone else self._turn.together()


class _Noted:
    """A context manager that records a message in shared memory without waiting for a turn."""

    __slots__ = ("_memory", "_message", "_thread")

    def __init__(self, memory: SharedMemory, thread: int, message: CurrentMessage) -> None:
        self._memory, self._thread, self._message = memory, thread, message

    def __enter__(self) -> None:
        self._memory.take(self._thread, self._message)

    def __exit__(self, *_: object) -> None:
        self._memory.release(self._thread)


class Turn:
    """A lock under which either several handlers run at the same time, or one handler runs alone.

    If a worker crashes while a message is handled alone, that message is certainly the cause.
    """

    def __init__(self, condition: threading.Condition | None = None) -> None:
        self._changed = threading.Condition() if condition is None else condition
        self._working = 0
        self._wanted = 0
        self._is_alone = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Wait until no handler is waiting to run alone, then run alongside other handlers."""
        with self._changed:
            self._changed.wait_for(lambda: not self._wanted)
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other handler is running, then run alone."""
        with self._changed:
            self._wanted += 1
            self._changed.wait_for(lambda: not self._working and not self._is_alone)
            self._is_alone = True
        try:
            yield
        finally:
            with self._changed:
                self._wanted -= 1
                self._is_alone = False
                self._changed.notify_all()
