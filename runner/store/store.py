"""The store of one process: reads at once, writes with a commit that others share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable, Row
from sqlalchemy.exc import SQLAlchemyError

from runner.errors import StoreAway
from runner.store.database import READS, is_passing, open_database, reason_of
from runner.store.writer import Writer

T = TypeVar("T")


class Store:
    """Opens the database; used from any thread."""

    def __init__(self, address: str, folder: Path, on_state: Callable[[str | None], None] = lambda _: None) -> None:
        """Raises StoreAway and StoreError as ``open_database``; ``on_state`` as ``Writer``."""
        self.engine = open_database(address, folder)
        self._writer = Writer(self.engine, on_state)
        self._readers = self.engine.execution_options(**{READS: True})

    def read(self, statement: Executable) -> Sequence[Row[Any]]:
        """All rows of a SELECT, as last committed. Raises StoreAway where the database is away or busy."""
        try:
            with self._readers.connect() as connection:
                return connection.execute(statement).all()
        except SQLAlchemyError as error:
            if is_passing(error):
                raise StoreAway(f"the database is away: {reason_of(error)}") from None
            raise

    def commit(self, work: Callable[[Connection], T], timeout: float | None = None) -> Future[T]:
        """Run ``work`` in a transaction, maybe together with others'; see ``Writer.commit``."""
        return self._writer.commit(work, timeout)

    @property
    def asked_since(self) -> float | None:
        """Since when a commit is under way, on the monotonic clock; None where none is."""
        return self._writer.asked_since

    def close(self, timeout: float) -> None:
        """Commit what is at hand, and close."""
        self._writer.close(timeout)
        self.engine.dispose()
