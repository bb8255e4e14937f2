"""What must succeed before services start, such as declaring the topology: tried on a thread until it does."""

from __future__ import annotations

import asyncio
import random
import threading
import traceback
from collections.abc import Callable

from runner.backoff import Backoff
from runner.errors import BrokerError, RunnerError

#: The delays before the next preparation, in seconds.
RETRY_DELAYS = Backoff(0.2, max=5.0)


class Gate:
    """Open while ``prepare`` has succeeded; ``invalidate`` closes it and tries again."""

    def __init__(
        self,
        prepare: Callable[[], None],
        on_change: Callable[[], None],
        on_refused: Callable[[RunnerError], None],
    ) -> None:
        self._prepare, self._on_change, self._on_refused = prepare, on_change, on_refused
        self._loop = asyncio.get_running_loop()
        self._attempt = 0
        self._is_closed = False
        #: Counts what made an earlier preparation worthless; a result that began before is not believed.
        self._generation = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_trying = False
        self.is_open = False
        #: Why it is closed.
        self.reason = "the broker"

    def invalidate(self, reason: str) -> None:
        """What was prepared may be gone: close, and try at once."""
        self.shut(reason)
        self.ensure()

    def ensure(self) -> None:
        """Try, unless it is open or a try is under way or due."""
        if not self.is_open and not self._is_trying and self._timer is None:
            self._attempt = 0
            self._try()

    def shut(self, reason: str) -> None:
        """What was prepared is gone, and there is nothing to prepare for now."""
        self.is_open = False
        self.reason = reason
        self._generation += 1

    def close(self) -> None:
        """Try no more."""
        self.is_open = False
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _try(self) -> None:
        self._timer = None
        self._is_trying = True
        self._began = self._generation
        # A daemon thread of its own, because asyncio waits for those of its pool before it lets the process end.
        threading.Thread(target=self._work, name="prepare", daemon=True).start()

    def _work(self) -> None:
        error: RunnerError | None = None
        try:
            self._prepare()
        except RunnerError as caught:
            error = caught
        except Exception as caught:  # noqa: BLE001 - the loop is told of it as of any other failure
            # A bug of ours; it keeps its traceback.
            error = RunnerError("".join(traceback.format_exception(caught)).rstrip())
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._done, error)

    def _done(self, error: RunnerError | None) -> None:
        self._is_trying = False
        if self._is_closed:
            return
        if error is None and self._began != self._generation:
            self._try()
            return
        if error is None:
            self.is_open = True
            self.reason = ""
        else:
            self.reason = str(error).splitlines()[0]
            if not isinstance(error, BrokerError):
                self._on_refused(error)
            self._attempt += 1
            self._timer = self._loop.call_later(RETRY_DELAYS.delay(self._attempt, random.random()), self._try)
        self._on_change()
