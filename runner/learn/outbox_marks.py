"""The marks of confirmed events in the outbox of a trial's database."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

#: Seconds to wait for the write lock of another process.
PATIENCE = 5.0


class OutboxMarks:
    """The events of all services in the outbox. A project without a database has an empty outbox."""

    def __init__(self, file: Path) -> None:
        """``file`` is the SQLite database."""
        self._file = file

    def waiting(self) -> int:
        """Return the number of events that are not marked as confirmed."""
        return self._count("SELECT count(*) FROM outbox WHERE sent_at IS NULL")

    def confirmed(self) -> int:
        """Return the number of events that are marked as confirmed."""
        return self._count("SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL")

    def remove(self, service: str) -> None:
        """Remove the marks of a service, as if its process had died between the confirms and the marks."""
        if self.confirmed():
            with contextlib.closing(self._connection()) as connection, connection:
                connection.execute("UPDATE outbox SET sent_at = NULL WHERE service = ?", (service,))

    def _count(self, statement: str) -> int:
        if not self._file.exists():
            return 0
        # A new database has no tables yet.
        with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(self._connection()) as connection:
            return int(connection.execute(statement).fetchone()[0])
        return 0

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=PATIENCE)
