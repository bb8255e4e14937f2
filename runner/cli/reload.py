"""Reloads of changed files and plugins in a running system, on request or after each save."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from runner.errors import EXIT_BROKER, EXIT_FAILURE, EXIT_OK, BrokerError, RunnerError
from runner.invocation import invocation
from runner.preparation.preparation_client import Preparation, PreparedPrograms
from runner.supervisor.output.journal import Journal
from runner.supervisor.program import Program
from runner.supervisor.timeline import Timeline

#: A function that replaces the running programs. Its callback is called once the new programs are running and all old
#: processes have exited.
Update = Callable[[Sequence[Program], Callable[[], None] | None], None]


class Reload:
    """The reloads of a running system. A reload checks all files and plugins first, and changes nothing after an error.

    Any thread may call the methods. Only one method runs at a time.
    """

    def __init__(self, preparation: Preparation, update: Update, journal: Journal, timeline: Timeline) -> None:
        self._preparation, self._update = preparation, update
        self._journal, self._timeline = journal, timeline
        self._lock = threading.Lock()
        #: The number of updates so far. The callback of an outdated update has no effect.
        self._count = 0

    def prepare(self) -> None:
        """Declare the topology, and start services that no longer have to wait.

        This method waits for a running reload. Otherwise, the method would replace the reloaded programs with outdated
        programs. Raises the errors of ``Preparation.prepare``.
        """
        with self._lock:
            prepared = self._preparation.prepare()
            if prepared is not None:
                self._apply(prepared)

    def _apply(self, prepared: PreparedPrograms) -> None:
        self._count += 1
        self._update(prepared.programs, partial(self._finish, self._count) if prepared.is_unfinished else None)

    def _finish(self, count: int) -> None:
        """Remove the bindings and policies that only the replaced processes needed."""
        with self._lock:
            if count != self._count:
                return  # a later update is replacing processes
            try:
                prepared = self._preparation.finish()
            except RunnerError as error:
                rest = "objects removed from the files remain on the broker until the next preparation"
                self._journal.say(f"{error}; {rest}; to remove them now: {invocation('reload')}", "warning")
            else:
                text = "bindings and policies that only the replaced processes needed are removed"
                self._timeline.add("reloaded", "files", text)
                if prepared is not None:
                    self._apply(prepared)

    def run(self) -> int:
        """Reload the files, and write the result to the journal. Return the exit code of the ``reload`` command."""
        with self._lock:
            try:
                prepared = self._preparation.reload()
            except BrokerError as error:
                text = f"not reloaded, because the broker is unreachable: {error}"
                self._journal.say(text, "warning")
                self._timeline.add("refused", "files", text)
                return EXIT_BROKER
            except RunnerError as error:
                for line in str(error).splitlines():
                    self._journal.say(line, "error")
                self._journal.say("not reloaded; all services keep running unchanged", "warning")
                self._timeline.add("refused", "files", f"not reloaded: {error}")
                return error.exit_code
            except Exception as error:  # noqa: BLE001 - a bug must not stop the file watcher
                for line in "".join(traceback.format_exception(error)).splitlines():
                    self._journal.say(line, "error")
                self._timeline.add("refused", "files", f"not reloaded: {type(error).__name__}: {error}")
                return EXIT_FAILURE
            for line in prepared.left:
                self._journal.say(line, "error")
            self._apply(prepared)
            rest = ", except for the changes above" if prepared.left else ""
            self._journal.say(f"files reloaded{rest}")
            self._timeline.add("reloaded", "files", f"files reloaded{rest}")
            return EXIT_OK


#: The watched files, and the folder whose files are all watched.
FILES, FOLDER = ("topology.yaml", "config.yaml"), "plugins"
#: Seconds between two checks for changed files.
INTERVAL = 0.3
#: Seconds before another reload if the broker was unreachable.
RETRY_DELAY = 2.0

Signature = tuple[tuple[int, int, int], ...]


class Watch:
    """A thread that checks the files for changes by polling, which works on every file system."""

    def __init__(self, folder: Path, reload: Reload) -> None:
        self._folder, self._reload = folder, reload
        self._seen = self._signature()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def _run(self) -> None:
        before = self._seen
        while True:
            time.sleep(INTERVAL)
            try:
                now = self._signature()
            except OSError:
                continue  # A file is being replaced.
            # Two checks with the same result show that no file is half-written.
            if now == before and now != self._seen:
                self._seen = now
                if self._reload.run() == EXIT_BROKER:
                    time.sleep(RETRY_DELAY)
                    self._seen = ()
            before = now

    def _signature(self) -> Signature:
        files = [self._folder / name for name in FILES]
        plugins = sorted((self._folder / FOLDER).rglob("*"))
        files += [path for path in plugins if path.is_file() and "__pycache__" not in path.parts]
        return tuple(_signature_of(path) for path in files)


def _signature_of(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
