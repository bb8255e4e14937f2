"""The batch of jobs that one commit makes durable: what a job is, and how several run in one transaction."""

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
#: The first number of PostgreSQL's advisory locks for decisions: ours.
_DECISIONS = 0x0FA57C04


@dataclass(frozen=True, slots=True)
class Insertion(Generic[T]):
    """A row that a job begins with: the job's work is only done where it is new."""

    #: As ``runner.store.prepared.insertion`` makes it.
    statement: Prepared
    row: Values
    #: What is done instead where the row was there before.
    otherwise: Callable[[Connection], T]


@dataclass(slots=True)
class Job:
    """Something to be committed, and who is told of it."""

    work: Callable[[Connection], Any]
    future: Future[Any]
    #: On the monotonic clock; None for as long as it takes.
    deadline: float | None
    new: Insertion[Any] | None = None
    #: Jobs with the same name here run one after another, also those of other processes. What such a job raises is a
    #: decision rather than an error, so that it always runs apart.
    lock: str | None = None
    result: Any = None
    error: BaseException | None = None

    def run(self, connection: Connection) -> Any:
        """Do all of it."""
        if self.new is not None and not self.new.statement.execute(connection, self.new.row):
            return self.new.otherwise(connection)
        return self.work(connection)


class Faulty(Exception):
    """One of the jobs needs a look of its own: it failed by an error that is not the database's, or its row is old."""


def run(batch: list[Job], connection: Connection, *, is_careful: bool) -> None:
    """Run all jobs in a transaction; with care, each so that it fails alone."""
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
            raise Faulty from error


def _lock(connection: Connection, name: str) -> None:
    """Wait until no other transaction has the lock of this name; the end of this transaction releases it."""
    # First of all, since who holds rows of the batch already could wait for somebody who waits for them. SQLite lets
    # only one transaction write at all.
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:kind, :key)"), {"kind": _DECISIONS, "key": key})


def _insert(batch: list[Job], connection: Connection) -> None:
    """Insert all rows that the jobs begin with, those of one statement at once. Raises Faulty where one is not new."""
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
            raise Faulty from error
        if count != len(some):
            # Hardly ever: who has looked it up before has found it then.
            raise Faulty


def _run_apart(job: Job, connection: Connection, *, is_careful: bool) -> None:
    """Run a job so that its failure is its own. Raises what passes; without care also a timeout, which may pass."""
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
