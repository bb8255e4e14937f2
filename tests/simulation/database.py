"""The store of one process: a real SQLite database in memory, whose commits finish at virtual times."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cache, partial
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Engine,
    Executable,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.pool import StaticPool

from runner.errors import StoreUnreachable
from runner.store import database, schema
from runner.store.commit_batch import Insertion, Job
from runner.store.commit_batch import run as run_jobs
from runner.store.prepared import Prepared
from runner.store.process_store import Store
from tests.simulation.thread import Condition

if TYPE_CHECKING:
    from tests.simulation.process import Process

T = TypeVar("T")
metadata = MetaData()
#: The table that handlers write to. It has no key, so that repeated effects are visible. It refuses negative runs.
effects = Table(
    "effects",
    metadata,
    Column("message", Text, nullable=False),
    Column("run", Integer, CheckConstraint("run >= 0"), nullable=False),
)


@cache
def engine() -> Engine:
    """Return the engine for all runs of this real process, opened as ``runner.store.database`` does."""
    one = create_engine("sqlite://", poolclass=StaticPool, hide_parameters=True)
    event.listen(one, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(one, "begin", database._begin_sqlite)
    with one.begin() as connection:
        schema.metadata.create_all(connection, tables=[schema.inbox])
        metadata.create_all(connection)
    return one


class Database:
    """The state of the database server: the committed rows, and whether the server is reachable."""

    def __init__(self, random: Random) -> None:
        self.engine, self.random = engine(), random
        self.is_unreachable = False
        #: The probability that the response to a commit is lost, so that the commit is repeated.
        self.forgetfulness = 0.0
        raw: Any = self.engine.raw_connection().driver_connection
        self._raw = raw
        for table in ("inbox", "effects"):
            self._raw.execute(f"DELETE FROM {table}")

    def effects_of(self, message: str) -> list[int]:
        """Return the runs of a message whose effects are committed."""
        rows = self._raw.execute("SELECT run FROM effects WHERE message = ? ORDER BY rowid", (message,))
        return [run for (run,) in rows]

    def is_in_inbox(self, message_id: str) -> bool:
        """Return True if the inbox contains the message."""
        row = self._raw.execute("SELECT 1 FROM inbox WHERE message_id = ?", (message_id,)).fetchone()
        return row is not None


class VirtualStore(Store):
    """The replacement of ``runner.store.process_store.Store``, with a writer that works at virtual times."""

    def __init__(self, process: Process, shared: Database) -> None:
        self.engine = shared.engine
        self._shared, self._process = shared, process
        self._readers = database.reading(shared.engine)
        self._kept = deque()
        self._jobs: list[Job] = []
        self._is_busy = False
        self._is_closed = False
        self._idle = Condition(process.turns)

    def read(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Read rows, as the real store does. Other threads may run meanwhile."""
        if self._shared.random.random() < 0.5:
            self._process.turns.sleep(0.001)
        if self._shared.is_unreachable:
            raise StoreUnreachable("the database is unreachable: simulated")
        return super().read(statement, parameters)

    def commit(
        self,
        work: Callable[[Connection], T],
        timeout: float | None = None,
        new: Insertion[T] | None = None,
        lock: str | None = None,
    ) -> Future[T]:
        """Queue a job for the next commit, as the real store does."""
        future: Future[T] = Future()
        self._jobs.append(Job(work, future, None, new, lock))
        self._next()
        return future

    def _next(self) -> None:
        if not self._is_busy and self._process.alive:
            self._is_busy = True
            self._later(self._shared.random.choice((0.0, 0.001, 0.02)), self._begin)

    def _later(self, delay: float, callback: Callable[[], None]) -> None:
        self._process.clock.after(delay, lambda: callback() if self._process.alive else None)

    def _begin(self) -> None:
        batch, self._jobs = self._jobs, []
        self._transact(batch)

    def _transact(self, batch: list[Job]) -> None:
        if self._is_closed:
            for job in batch:
                job.error = StoreUnreachable("the store is closed")
            self._answer(batch)
            return
        if self._shared.is_unreachable:
            self._later(0.1, partial(self._transact, batch))
            return
        try:
            self._run(batch, is_careful=False)
        except Exception:  # one of the jobs failed, and the careful run finds out which
            self._run(batch, is_careful=True)
        self._process.ledger.committed(self._process)
        random = self._shared.random
        if random.random() < self._shared.forgetfulness:
            self._process.history.hit("a commit is repeated because its response was lost")
            self._later(0.1, partial(self._transact, batch))
        else:
            self._later(random.choice((0.0, 0.001, 0.02)), partial(self._finish, batch))

    def _run(self, batch: list[Job], *, is_careful: bool) -> None:
        with self.engine.begin() as connection:
            run_jobs(batch, connection, is_careful=is_careful)

    def _finish(self, batch: list[Job]) -> None:
        self._process.history.say(self._process.name, f"commit of {len(batch)} jobs is reported")
        self._answer(batch)

    def _answer(self, batch: list[Job]) -> None:
        for job in batch:
            if job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.error)
        self._is_busy = False
        self._idle.notify_all()
        if self._jobs:
            self._next()

    def close(self, timeout: float) -> None:
        """Close the store, as the real store does: unfinished jobs fail."""
        self._idle.wait_for(lambda: not self._is_busy, timeout)
        self._is_closed = True
