"""The store of one process on a real SQLite in memory, with commits that come to an end when the clock says so."""

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

from runner.errors import StoreAway
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
#: What handlers write: without a key, so that what is done twice shows. A negative run is refused.
effects = Table(
    "effects",
    metadata,
    Column("message", Text, nullable=False),
    Column("run", Integer, CheckConstraint("run >= 0"), nullable=False),
)


@cache
def engine() -> Engine:
    """One for all runs of this real process, opened as ``runner.store.database`` does."""
    one = create_engine("sqlite://", poolclass=StaticPool, hide_parameters=True)
    event.listen(one, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(one, "begin", database._begin_sqlite)
    with one.begin() as connection:
        schema.metadata.create_all(connection, tables=[schema.inbox])
        metadata.create_all(connection)
    return one


class Database:
    """The server's side: what is committed, and whether it answers."""

    def __init__(self, random: Random) -> None:
        self.engine, self.random = engine(), random
        self.is_away = False
        #: How likely the answer to a commit is lost, so that it is done again.
        self.forgetfulness = 0.0
        raw: Any = self.engine.raw_connection().driver_connection
        self._raw = raw
        for table in ("inbox", "effects"):
            self._raw.execute(f"DELETE FROM {table}")

    def effects_of(self, message: str) -> list[int]:
        """The runs of a message whose effect is committed."""
        rows = self._raw.execute("SELECT run FROM effects WHERE message = ? ORDER BY rowid", (message,))
        return [run for (run,) in rows]

    def is_taken_in(self, message_id: str) -> bool:
        """Whether the inbox knows a message."""
        row = self._raw.execute("SELECT 1 FROM inbox WHERE message_id = ?", (message_id,)).fetchone()
        return row is not None


class VirtualStore(Store):
    """``runner.store.process_store.Store`` with a writer that works when the virtual clock says so."""

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
        """As the real one; takes a moment, in which others have their turn."""
        if self._shared.random.random() < 0.5:
            self._process.turns.sleep(0.001)
        if self._shared.is_away:
            raise StoreAway("the database is away: simulated")
        return super().read(statement, parameters)

    def commit(
        self,
        work: Callable[[Connection], T],
        timeout: float | None = None,
        new: Insertion[T] | None = None,
        lock: str | None = None,
    ) -> Future[T]:
        """As the real one."""
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
                job.error = StoreAway("the store is closed")
            self._answer(batch)
            return
        if self._shared.is_away:
            self._later(0.1, partial(self._transact, batch))
            return
        try:
            self._run(batch, is_careful=False)
        except Exception:  # one of them is at fault, and the next try finds out which
            self._run(batch, is_careful=True)
        self._process.ledger.committed(self._process)
        random = self._shared.random
        if random.random() < self._shared.forgetfulness:
            self._process.history.hit("a commit whose answer is lost is done again")
            self._later(0.1, partial(self._transact, batch))
        else:
            self._later(random.choice((0.0, 0.001, 0.02)), partial(self._finish, batch))

    def _run(self, batch: list[Job], *, is_careful: bool) -> None:
        with self.engine.begin() as connection:
            run_jobs(batch, connection, is_careful=is_careful)

    def _finish(self, batch: list[Job]) -> None:
        self._process.history.say(self._process.name, f"commit of {len(batch)} is answered")
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
        """As the real one: what does not get done in time fails."""
        self._idle.wait_for(lambda: not self._is_busy, timeout)
        self._is_closed = True
