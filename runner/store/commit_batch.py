"""A batch of jobs that share one commit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from runner.store.database import is_passing, is_timeout
from runner.store.prepared import Prepared, Values

T = TypeVar("T")
#: The first key of the PostgreSQL advisory locks for jobs with a ``lock``.
_DECISIONS = 0x0FA57C04


@dataclass(frozen=True, slots=True)
class Insertion(Generic[T]):
    """A row that a job inserts before its work. The job continues only if the row is new."""

    #: A statement of ``runner.store.prepared.insertion``.
    statement: Prepared
    row: Values
    #: The function to call instead of the job's work if the row exists.
    otherwise: Callable[[Connection], T]


@dataclass(slots=True)
class Job:
    """A function that writes to the database, and the future of its commit."""

    work: Callable[[Connection], Any]
    future: Future[Any]
    #: The deadline as monotonic time in seconds. None for no deadline.
    deadline: float | None
    new: Insertion[Any] | None = None
    #: The name of a lock. Jobs with the same lock run one after another, even in different processes. Exceptions from a
    #: job with a lock are expected, so the job always has a savepoint.
    lock: str | None = None
    result: Any = None
    error: BaseException | None = None

    def run(self, connection: Connection) -> Any:
        """Insert the row, call the job's function, and return the function's result."""
        if self.new is not None and not self.new.statement.execute(connection, self.new.row):
            return self.new.otherwise(connection)
        return self.work(connection)


class BatchFailure(Exception):
    """The failure of a batch in which a job raised an exception or a job's row already exists."""


def run(batch: list[Job], connection: Connection, *, is_careful: bool) -> None:
    """Run all jobs in the transaction of ``connection``.

    If ``is_careful`` is True, each job has a savepoint, so that a failed job does not affect other jobs. Raises
    BatchFailure.
    """
    for name in sorted({job.lock for job in batch if job.lock is not None}):
        _lock(connection, name)
    if not is_careful:
        _insert([job for job in batch if job.lock is None], connection)
    for job in batch:
        if is_careful or job.lock is not None:
            _run_apart(job, connection, is_careful=is_careful)
            continue
        job.error = None
        try:
            job.result = job.work(connection)
        except SQLAlchemyError:
            raise
        except BaseException as error:
            raise BatchFailure from error


def _lock(connection: Connection, name: str) -> None:
    """Acquire the lock called ``name``, which is released at the end of the transaction."""
    # Locks are acquired before rows are written, so that two transactions cannot deadlock. SQLite needs no lock,
    # because it allows only one writing transaction.
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:kind, :key)"), {"kind": _DECISIONS, "key": key})


def _insert(batch: list[Job], connection: Connection) -> None:
    """Insert the first rows of all jobs, with one call per statement. Raises BatchFailure if a row already exists."""
    rows: dict[Prepared, list[Values]] = {}
    for job in batch:
        if job.new is not None:
            rows.setdefault(job.new.statement, []).append(job.new.row)
    for statement, some in rows.items():
        try:
            count = statement.execute_all(connection, some)
        except SQLAlchemyError:
            raise
        except BaseException as error:
            raise BatchFailure from error
        if count != len(some):
            # The row rarely exists already, because a worker checks for the row before submitting the job.
            raise BatchFailure


def _run_apart(job: Job, connection: Connection, *, is_careful: bool) -> None:
    """Run a job in a savepoint, so that its failure affects no other job.

    If the database is unreachable, the error is raised. If ``is_careful`` is False, a timeout is also raised, because
    another transaction's lock may be the cause.
    """
    job.error = None
    savepoint = connection.begin_nested()
    try:
        job.result = job.run(connection)
        savepoint.commit()
    except BaseException as error:
        if is_passing(error) or (is_timeout(error) and not is_careful):
            raise
        savepoint.rollback()
        job.error = error
