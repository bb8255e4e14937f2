"""Protection from crashing messages: they are handled alone, and dead-lettered after ``max_crashes`` crashes."""

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

#: Seconds within which the supervisor always notices a death. Only suspect messages wait that long.
SETTLE = 0.2
#: The largest number of replays that fits into the shared memory.
MOST_REPLAYS = 2**32 - 1


class Crashed(Reject):
    """The error of a message that has crashed ``max_crashes`` workers."""

    def __init__(self, suspect: CrashingMessage) -> None:
        super().__init__(f"its worker died of it {suspect.times}, {suspect.reason}")
        self.suspect = suspect


class CrashProtection:
    """A wrapper that writes the message of each handler thread to shared memory, for the supervisor after a crash."""

    def __init__(
        self,
        record: SharedMemory,
        suspects: CrashingMessages,
        max_crashes: int,
        concurrency: int,
        condition: Callable[[], threading.Condition] = threading.Condition,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """``sleep`` waits for a number of seconds."""
        self._record, self._suspects, self._max_crashes, self._sleep = record, suspects, max_crashes, sleep
        self._turn = Turn(condition()) if concurrency > 1 else None

    def around(self, handler: Handler) -> Handler:
        """Return a handler that records its message. It raises Crashed after ``max_crashes`` crashes of a message."""

        def protected(one: DeliveryLifecycle) -> DeliveryEvent:
            with self.at(one.thread, one.message):
                return handler(one)

        return protected

    def at(self, thread: int, message: Message) -> AbstractContextManager[None]:
        """Return a context that records the message of a handler thread, numbered from 0. Its entry raises Crashed."""
        one = CurrentMessage(message.queue, message.id, min(message.replays, MOST_REPLAYS))
        if self._turn is None and self._suspects.get(one) is None:
            return _Noted(self._record, thread, one)
        return self._in_turn(thread, one)

    @contextmanager
    def _in_turn(self, thread: int, one: CurrentMessage) -> Iterator[None]:
        """Wait until the message may be handled beside the messages of the other threads, then record it."""
        is_suspect = self._is_suspect(one)
        while True:
            with self._beside_others(is_suspect=is_suspect):
                if is_suspect:
                    # The broker may deliver the message before the supervisor has noticed the end of its last worker.
                    self._sleep(SETTLE)
                # Read after the wait, because another delivery of the message may have killed a worker meanwhile.
                suspect = self._suspects.get(one)
                if suspect is not None and suspect.deaths >= self._max_crashes:
                    raise Crashed(suspect)
                if is_suspect or suspect is None or not suspect.needs_isolation:
                    with _Noted(self._record, thread, one):
                        yield
                    return
            is_suspect = True

    def _is_suspect(self, one: CurrentMessage) -> bool:
        suspect = self._suspects.get(one)
        return suspect is not None and suspect.needs_isolation

    def _beside_others(self, *, is_suspect: bool) -> AbstractContextManager[None]:
        if self._turn is None:
            return nullcontext()
        return self._turn.alone() if is_suspect else self._turn.together()


class _Noted:
    """A context that records a message in shared memory without waiting, for nearly all messages."""

    __slots__ = ("_message", "_record", "_thread")

    def __init__(self, record: SharedMemory, thread: int, message: CurrentMessage) -> None:
        self._record, self._thread, self._message = record, thread, message

    def __enter__(self) -> None:
        self._record.take(self._thread, self._message)

    def __exit__(self, *_: object) -> None:
        self._record.release(self._thread)


class Turn:
    """A lock under which handlers run at the same time, or one handler runs alone.

    If the handler of a suspect message runs alone, a crash is attributed to the right message.
    """

    def __init__(self, condition: threading.Condition | None = None) -> None:
        self._changed = threading.Condition() if condition is None else condition
        self._working = 0
        self._wanted = 0
        self._is_alone = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run beside other handlers, when no handler waits to run alone."""
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
        """Run while no other handler runs."""
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
