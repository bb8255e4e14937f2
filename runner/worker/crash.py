"""Messages that kill: those in whose hands a worker died are handled alone, and parked after too many deaths."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from runner.ipc.crashing_messages import CrashingMessage, CrashingMessages
from runner.ipc.shared_memory import CurrentMessage, SharedMemory
from runner.messages import Message, Reject

#: Seconds in which the supervisor notices a death for certain; only messages that are suspect wait for it.
SETTLE = 0.2
#: What the shared memory has room for.
MOST_REPLAYS = 2**32 - 1


class Crashed(Reject):
    """A message has killed as many workers as it may."""

    def __init__(self, suspect: CrashingMessage) -> None:
        super().__init__(f"its worker died of it {suspect.times}, {suspect.reason}")
        self.suspect = suspect


class Hands:
    """What each handler thread is at, for the supervisor to find after a death."""

    def __init__(self, record: SharedMemory, suspects: CrashingMessages, max_crashes: int, concurrency: int) -> None:
        self._record, self._suspects, self._max_crashes = record, suspects, max_crashes
        self._turn = Turn() if concurrency > 1 else None

    def at(self, hand: int, message: Message) -> AbstractContextManager[None]:
        """While a handler thread, numbered from 0, is at a message. Raises Crashed for one that is to be parked."""
        one = CurrentMessage(message.queue, message.id, min(message.replays, MOST_REPLAYS))
        if self._turn is None and self._suspects.get(one) is None:
            return _Held(self._record, hand, one)
        return self._at_last(hand, one)

    @contextmanager
    def _at_last(self, hand: int, one: CurrentMessage) -> Iterator[None]:
        """Once those beside it, and what is held against it, allow for it."""
        is_suspect = self._is_suspect(one)
        while True:
            with self._beside_others(is_suspect=is_suspect):
                if is_suspect:
                    # The broker may have been faster to give it to us than the supervisor to see its last worker's end.
                    time.sleep(SETTLE)
                # Only now: while it waited for its turn, a second delivery of it may have killed another worker.
                suspect = self._suspects.get(one)
                if suspect is not None and suspect.deaths >= self._max_crashes:
                    raise Crashed(suspect)
                if is_suspect or suspect is None or not suspect.is_suspect:
                    self._record.take(hand, one)
                    try:
                        yield
                    finally:
                        self._record.release(hand)
                    return
            is_suspect = True

    def _is_suspect(self, one: CurrentMessage) -> bool:
        suspect = self._suspects.get(one)
        return suspect is not None and suspect.is_suspect

    def _beside_others(self, *, is_suspect: bool) -> AbstractContextManager[None]:
        if self._turn is None:
            return nullcontext()
        return self._turn.alone() if is_suspect else self._turn.together()


class _Held:
    """A message in a hand, with nothing to wait for: nearly all of them."""

    __slots__ = ("_hand", "_message", "_record")

    def __init__(self, record: SharedMemory, hand: int, message: CurrentMessage) -> None:
        self._record, self._hand, self._message = record, hand, message

    def __enter__(self) -> None:
        self._record.take(self._hand, self._message)

    def __exit__(self, *_: object) -> None:
        self._record.release(self._hand)


class Turn:
    """Lets handlers work side by side, but for one that is to be alone, so that a death names the right message."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
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
