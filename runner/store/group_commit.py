"""Commits what several threads want written together: one durable commit for all that came while the last one ran."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from runner.backoff import Backoff
from runner.errors import StoreAway
from runner.store.commit_batch import Faulty, Insertion, Job, run
from runner.store.database import is_passing, is_timeout, reason_of

T = TypeVar("T")
#: How many jobs are committed at once, at most.
BATCH = 500
#: The delays before the next try where the database is away, in seconds.
RETRY_DELAYS = Backoff(0.1, max=2.0, jitter=0.0)
#: Seconds for which a statement that the server breaks off for taking too long waits for something, and is tried again;
#: after that it is the job's own fault.
TIMEOUTS = 60.0
#: Seconds before it is said again that it is.
SAY_AGAIN = 10.0

log = logging.getLogger("runner.store")


class GroupCommit:
    """A thread that runs jobs in transactions of many.

    A job that fails takes nothing of the others along. While the database is away jobs wait; a job may therefore run
    more than once, and only the last run counts: it should do nothing but write to its connection.
    """

    def __init__(self, engine: Engine, on_state: Callable[[str | None], None] = lambda _: None) -> None:
        """``on_state`` is told why nothing can be written for now, and None once it can again."""
        self._engine, self._on_state = engine, on_state
        #: Kept from one commit to the next, because taking one from the pool costs as much as the commit itself.
        self._connection: Connection | None = None
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        #: Whether nobody waits any longer, and whether nothing is committed any more.
        self._is_closed, self._is_over = threading.Event(), threading.Event()
        self._problem: str | None = None
        self._say_again = 0.0
        #: Whether the writer has reached the end of its jobs.
        self._ends = False
        #: Since when the database has not answered, on the monotonic clock; None while it is asked nothing.
        self.asked_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def commit(
        self,
        work: Callable[[Connection], T],
        timeout: float | None = None,
        new: Insertion[T] | None = None,
        lock: str | None = None,
    ) -> Future[T]:
        """Run ``work``, after ``new``, in a transaction; done with what it returns once that is committed.

        Of those with the same ``lock`` only one transaction runs at a time, also those of other processes.

        Fails with what ``work`` raises, or with StoreAway where the database was away for ``timeout`` seconds.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._jobs.put(Job(work, future, None if timeout is None else time.monotonic() + timeout, new, lock))
        if self._is_over.is_set():
            self._drop_rest()
        return future

    def close(self, timeout: float) -> None:
        """Commit what is at hand, then end; what the database does not take within ``timeout`` seconds fails."""
        self._jobs.put(None)
        self._thread.join(timeout)
        self._is_closed.set()

    def _run(self) -> None:
        self._work()
        self._is_over.set()
        self._drop_rest()
        if self._connection is not None:
            self._connection.close()

    def _drop_rest(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    job.error = StoreAway("the store is closed")
                    self._finish([job])

    def _work(self) -> None:
        while not self._ends and (job := self._jobs.get()) is not None:
            batch = [job]
            self._take(batch, BATCH)
            try:
                self._commit(batch)
            except BaseException as error:
                # Whoever waits for these must hear of it, and the next ones have nothing to do with it.
                log.exception("the store's thread met with an error of its own")
                self._fail([one for one in batch if not one.future.done()], error)

    def _take(self, batch: list[Job], most: int | None = None) -> None:
        """Add the waiting jobs to a batch, up to ``most`` jobs in all."""
        with contextlib.suppress(Empty):
            while not self._ends and (most is None or len(batch) < most):
                job = self._jobs.get_nowait()
                if job is None:
                    self._ends = True
                else:
                    batch.append(job)

    def _commit(self, batch: list[Job]) -> None:
        attempt, is_careful = 0, False
        patience = time.monotonic() + TIMEOUTS
        while batch:
            part = batch[:BATCH]
            try:
                self._ask(part, is_careful=is_careful)
            except SQLAlchemyError as error:
                if not is_passing(error) and not (is_timeout(error) and time.monotonic() < patience):
                    # One of them is at fault, and the next try finds out which, at the price of a savepoint each.
                    # A commit that fails although each of them succeeded fails for all.
                    if is_careful:
                        self._fail(part, error)
                        del batch[:BATCH]
                    is_careful = not is_careful
                    continue
                if is_passing(error):
                    patience = time.monotonic() + TIMEOUTS  # no statement has timed out
                batch[:] = self._waiting(batch, reason_of(error))
                attempt += 1
                self._is_closed.wait(RETRY_DELAYS.delay(attempt, draw=1.0))
                # Jobs that arrived in the meantime have deadlines too.
                self._take(batch)
                continue
            except Faulty:
                is_careful = True
                continue
            except BaseException as error:  # noqa: BLE001 - whoever waits for these must hear of it
                self._fail(part, error)
                del batch[:BATCH]
                continue
            self._tell(None)
            self._finish(part)
            del batch[:BATCH]
            is_careful, patience = False, time.monotonic() + TIMEOUTS

    def _ask(self, batch: list[Job], *, is_careful: bool) -> None:
        self.asked_since = time.monotonic()
        was_kept = self._connection is not None
        try:
            self._transact(batch, is_careful=is_careful)
        except DBAPIError as error:
            if not (was_kept and error.connection_invalidated):
                raise
            # The server may only have closed it while nothing was to be done.
            self._transact(batch, is_careful=is_careful)
        finally:
            self.asked_since = None

    def _transact(self, batch: list[Job], *, is_careful: bool) -> None:
        connection, self._connection = self._connection or self._engine.connect(), None
        try:
            with connection.begin():
                run(batch, connection, is_careful=is_careful)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _waiting(self, batch: list[Job], reason: str) -> list[Job]:
        """Those that go on waiting; the others fail."""
        self._tell(reason)
        now = time.monotonic()
        left = [] if self._is_closed.is_set() else [job for job in batch if job.deadline is None or now < job.deadline]
        away = StoreAway(f"the database is away: {reason}")
        self._fail([job for job in batch if job not in left], away)
        return left

    def _tell(self, reason: str | None) -> None:
        now = time.monotonic()
        if reason is not None and (self._problem is None or now >= self._say_again):
            self._say_again = now + SAY_AGAIN
            log.warning("nothing can be written for now, %s: tried again until it can", reason)
        elif reason is None and self._problem is not None:
            log.info("the database is back")
        if (reason is None) != (self._problem is None):
            self._on_state(None if reason is None else f"the database is away: {reason}")
        self._problem = reason

    def _fail(self, batch: list[Job], error: BaseException) -> None:
        for job in batch:
            job.error = error
        self._finish(batch)

    def _finish(self, batch: list[Job]) -> None:
        for job in batch:
            if job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.error)
