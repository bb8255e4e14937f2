"""Group commit: one durable commit for all jobs that arrived during the previous commit."""

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
from runner.errors import StoreUnreachable
from runner.store.commit_batch import BatchFailure, Insertion, Job, run
from runner.store.database import is_passing, is_timeout, reason_of

T = TypeVar("T")
#: The maximum number of jobs in one commit.
BATCH = 500
#: The delays between attempts while the database is unreachable, in seconds.
RETRY_DELAYS = Backoff(0.1, max=2.0, jitter=0.0)
#: Seconds for which a timed-out statement is retried, because a lock may be the cause. After that, the job fails.
TIMEOUTS = 60.0
#: Seconds between warnings about the same problem.
WARNING_INTERVAL = 10.0

log = logging.getLogger("runner.store")


class GroupCommit:
    """A thread that commits many jobs in each transaction.

    The failure of a job does not affect other jobs. While the database is unreachable, jobs wait. A job may run more
    than once, and only its last run is committed. A job must therefore write only to its connection and must have no
    other effects.
    """

    def __init__(self, engine: Engine, on_state: Callable[[str | None], None] = lambda _: None) -> None:
        """``on_state`` gets the reason when the database becomes unreachable, and None when it is reachable again."""
        self._engine, self._on_state = engine, on_state
        #: The connection of the previous commit. It is reused, because a connection from the pool takes as long as a
        #: commit.
        self._connection: Connection | None = None
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        #: Two events that are set when ``close`` has waited for the thread, and when the thread has stopped.
        self._is_closed, self._is_over = threading.Event(), threading.Event()
        self._problem: str | None = None
        self._warn_again = 0.0
        #: True after the thread has read the end marker from the queue.
        self._ends = False
        #: The start of the current transaction as monotonic time in seconds. None between transactions.
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
        """Run ``work`` in a transaction, after the insertion ``new``.

        After the commit, the future's result is the return value of ``work``.

        Transactions with the same ``lock`` run one at a time, even in different processes.

        The future fails with the exception of ``work``, or with StoreUnreachable if the database is unreachable for
        ``timeout`` seconds.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._jobs.put(Job(work, future, None if timeout is None else time.monotonic() + timeout, new, lock))
        if self._is_over.is_set():
            self._drop_rest()
        return future

    def close(self, timeout: float) -> None:
        """Commit the waiting jobs and stop. Jobs that are not committed within ``timeout`` seconds fail."""
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
                    job.error = StoreUnreachable("the store is closed")
                    self._finish([job])

    def _work(self) -> None:
        while not self._ends and (job := self._jobs.get()) is not None:
            batch = [job]
            self._take(batch, BATCH)
            try:
                self._commit(batch)
            except BaseException as error:
                # The callers must get the error, and the thread must continue with the next jobs.
                log.exception("unexpected error in the store's thread")
                self._fail([one for one in batch if not one.future.done()], error)

    def _take(self, batch: list[Job], most: int | None = None) -> None:
        """Add the waiting jobs to a batch, up to a total of ``most`` jobs."""
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
                    # A job has failed. The next attempt uses savepoints, which are slower, to find the job that failed.
                    # If the commit fails although every job succeeded, all jobs are reported as failed.
                    if is_careful:
                        self._fail(part, error)
                        del batch[:BATCH]
                    is_careful = not is_careful
                    continue
                if is_passing(error):
                    patience = time.monotonic() + TIMEOUTS  # only consecutive timeouts count
                batch[:] = self._waiting(batch, reason_of(error))
                attempt += 1
                self._is_closed.wait(RETRY_DELAYS.delay(attempt, draw=1.0))
                # Jobs that arrived in the meantime have deadlines too.
                self._take(batch)
                continue
            except BatchFailure:
                is_careful = True
                continue
            except BaseException as error:  # noqa: BLE001 - the callers must get the error
                self._fail(part, error)
                del batch[:BATCH]
                continue
            self._report(None)
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
            # The server may have closed the idle connection.
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
        """Return the jobs that can wait longer, and make all other jobs fail."""
        self._report(reason)
        now = time.monotonic()
        left = [] if self._is_closed.is_set() else [job for job in batch if job.deadline is None or now < job.deadline]
        error = StoreUnreachable(f"the database is unreachable: {reason}")
        self._fail([job for job in batch if job not in left], error)
        return left

    def _report(self, reason: str | None) -> None:
        now = time.monotonic()
        if reason is not None and (self._problem is None or now >= self._warn_again):
            self._warn_again = now + WARNING_INTERVAL
            log.warning("writing to the database is paused: %s; retrying", reason)
        elif reason is None and self._problem is not None:
            log.info("the database is back")
        if (reason is None) != (self._problem is None):
            self._on_state(None if reason is None else f"the database is unreachable: {reason}")
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
