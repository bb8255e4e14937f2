"""The dead letters that the page shows. All open pages share one snapshot, which is read again after a change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runner.deadletters.snapshot import DeadLetterSnapshot, read_snapshot
from runner.errors import RunnerError

#: The minimum number of seconds between two reads. While a queue is read, its messages are invisible to other clients.
LEAST_AGE = 1.0
#: Seconds after which a snapshot is read again, even if no count has changed.
MAX_AGE = 30.0
#: Seconds after the end of a command of the page in which the queues are read every LEAST_AGE seconds. A message that
#: is replayed and fails again between two counts leaves the counts unchanged.
SETTLE_SECONDS = 5.0


@dataclass(frozen=True)
class CachedDeadLetters:
    """A snapshot for one request."""

    snapshot: DeadLetterSnapshot
    #: The reason why the dead letters could not be read, or None.
    problem: str | None
    #: True if the dead letters have changed or may change, and the page must ask again in LEAST_AGE seconds.
    is_outdated: bool


class DeadLetterCache:
    """A snapshot that is read again if ``version`` returns another value, but not while ``is_busy`` returns True.

    ``ended`` returns the number of commands of the page that have ended.

    Any thread may call the methods.
    """

    def __init__(
        self,
        folder: Path,
        version: Callable[[], object],
        is_busy: Callable[[], bool],
        read: Callable[[Path], DeadLetterSnapshot] = read_snapshot,
        ended: Callable[[], int] = lambda: 0,
    ) -> None:
        self._folder, self._version, self._is_busy, self._read = folder, version, is_busy, read
        self._lock = threading.Lock()
        self._snapshot = DeadLetterSnapshot()
        self._problem: str | None = None
        self._read_version: object = None
        self._read_at = float("-inf")
        self._ended, self._known_ended = ended, 0
        self._settled_at = float("-inf")

    def get(self) -> CachedDeadLetters:
        """Return the latest snapshot, after reading the dead letters again if necessary."""
        with self._lock:
            is_outdated = self._refresh()
            return CachedDeadLetters(self._snapshot, self._problem, is_outdated)

    def _refresh(self) -> bool:
        """Read the dead letters again if necessary. Return True if it will be necessary in LEAST_AGE seconds."""
        # A replay receives the messages that it has not sent yet, so a snapshot would not contain them.
        if self._snapshot.taken_at and self._is_busy():
            return False
        version, ended, now = self._version(), self._ended(), time.monotonic()
        if ended != self._known_ended:
            self._known_ended, self._settled_at = ended, now + SETTLE_SECONDS
        is_settled, age = now >= self._settled_at, now - self._read_at
        if age < LEAST_AGE:
            return version != self._read_version or not is_settled
        if age < MAX_AGE and version == self._read_version and is_settled:
            return False
        try:
            self._snapshot, self._problem = self._read(self._folder), None
        except RunnerError as error:
            self._problem = str(error)
        self._read_version, self._read_at = version, time.monotonic()
        return not is_settled
