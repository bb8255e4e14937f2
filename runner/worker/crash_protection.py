"""Protection from crashing messages: they are handled alone, and dead-lettered after too many crashes."""

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

#: Seconds in which the supervisor notices a death for certain; only messages that are suspect wait for it.
SETTLE = 0.2
#: What the shared memory has room for.
MOST_REPLAYS = 2**32 - 1


class Crashed(Reject):
    """A message has crashed as many workers as it may."""

    def __init__(self, suspect: CrashingMessage) -> None:
        super().__init__(f"its worker died of it {suspect.times}, {suspect.reason}")
        self.suspect = suspect


class CrashProtection:
    """Notes in shared memory which message each handler thread works on, for the supervisor to find after a crash."""

    def __init__(
        self,
        record: SharedMemory,
        suspects: CrashingMessages,
        max_crashes: int,
        concurrency: int,
        condition: Callable[[], threading.Condition] = threading.Condition,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """``sleep`` waits for so many seconds."""
        self._record, self._suspects, self._max_crashes, self._sleep = record, suspects, max_crashes, sleep
        self._turn = Turn(condition()) if concurrency > 1 else None

    def around(self, handler: Handler) -> Handler:
        """Note a message while ``handler`` works on it. A message that has crashed too many workers raises Crashed."""

        def protected(one: DeliveryLifecycle) -> DeliveryEvent:
            with self.at(one.thread, one.message):
                return handler(one)

        return protected

    def at(self, thread: int, message: Message) -> AbstractContextManager[None]:
        """Note a message while a handler thread, numbered from 0, works on it. Raises Crashed."""
        one = CurrentMessage(message.queue, message.id, min(message.replays, MOST_REPLAYS))
        if self._turn is None and self._suspects.get(one) is None:
            return _Noted(self._record, thread, one)
        return self._in_turn(thread, one)

    @contextmanager
    def _in_turn(self, thread: int, one: CurrentMessage) -> Iterator[None]:
        """Wait until the messages of the other threads, and the crashes of this one, allow for it."""
        is_suspect = self._is_suspect(one)
        while True:
            with self._beside_others(is_suspect=is_suspect):
                if is_suspect:
                    # The broker may deliver the message before the supervisor has noticed the end of its last worker.
                    self._sleep(SETTLE)
                # Only now: while it waited for its turn, a second delivery of it may have killed another worker.
                suspect = self._suspects.get(one)
                if suspect is not None and suspect.deaths >= self._max_crashes:
                    raise Crashed(suspect)
                if is_suspect or suspect is None or not suspect.is_suspect:
                    with _Noted(self._record, thread, one):
                        yield
                    return
            is_suspect = True

    def _is_suspect(self, one: CurrentMessage) -> bool:
        suspect = self._suspects.get(one)
        return suspect is not None and suspect.is_suspect

    def _beside_others(self, *, is_suspect: bool) -> AbstractContextManager[None]:
        if self._turn is None:
            return nullcontext()
        return self._turn.alone() if is_suspect else self._turn.together()


class _Noted:
    """Notes a message in shared memory; without a wait, as for nearly all messages."""

    __slots__ = ("_message", "_record", "_thread")

    def __init__(self, record: SharedMemory, thread: int, message: CurrentMessage) -> None:
        self._record, self._thread, self._message = record, thread, message

    def __enter__(self) -> None:
        self._record.take(self._thread, self._message)

    def __exit__(self, *_: object) -> None:
        self._record.release(self._thread)


class Turn:
    """Lets handlers work side by side, except one that must be alone, so that a crash names the right message."""

    def __init__(self, condition: threading.Condition | None = None) -> None:
        self._changed = threading.Condition() if condition is None else condition
        self._working = 0
        self._wanted = 0
        self._is_alone = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Beside others, once nobody wants to be alone."""
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
        """With nobody beside."""
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
