"""Apply changed files and plugins while everything else runs: on request, or when they are saved."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from pathlib import Path

from runner.errors import BrokerError, RunnerError
from runner.invocation import invocation
from runner.preparation.preparation_client import Preparation, Taken
from runner.supervisor.output.journal import Journal
from runner.supervisor.program import Program

#: Passes on what is to run from now on, and what is to be done once it does and nothing before it.
Update = Callable[[Sequence[Program], Callable[[], None] | None], None]


class ReloadOutcome(Enum):
    """How it went."""

    DONE = "done"
    #: All but what would have to be replaced on the broker.
    LEFT = "left"
    REFUSED = "refused"
    BROKER_AWAY = "broker away"


class Reload:
    """Checks everything first; whatever is wrong, all runs on as it was. From any thread, one at a time."""

    def __init__(self, preparation: Preparation, update: Update, journal: Journal) -> None:
        self._preparation, self._update, self._journal = preparation, update, journal
        self._lock = threading.Lock()
        #: Counts what was passed on; what is to follow an older one is dropped.
        self._count = 0

    def prepare(self) -> None:
        """Declare the topology, and run what nothing holds back any longer. Raises what ``Preparation.prepare`` raises.

        Not while the files are taken over: the programs of the older project would be the last to be passed on.
        """
        with self._lock:
            taken = self._preparation.prepare()
            if taken is not None:
                self._pass_on(taken)

    def _pass_on(self, taken: Taken) -> None:
        self._count += 1
        self._update(taken.programs, partial(self._finish, self._count) if taken.is_unfinished else None)

    def _finish(self, count: int) -> None:
        """Remove what the services no longer publish by, now that those before them are gone."""
        with self._lock:
            if count != self._count:
                return  # others are being replaced by now
            try:
                taken = self._preparation.finish()
            except RunnerError as error:
                remedy = "what is gone from the files is removed when the broker is prepared next, or by"
                remedy = f"{remedy}: {invocation('reload')}"
                self._journal.say(f"{error}; {remedy}", "warning")
            else:
                if taken is not None:
                    self._pass_on(taken)

    def take(self) -> ReloadOutcome:
        """Do it; what happens is said in the journal."""
        with self._lock:
            try:
                taken = self._preparation.take_over()
            except BrokerError as error:
                self._journal.say(f"not reloaded, the broker is unreachable: {error}", "warning")
                return ReloadOutcome.BROKER_AWAY
            except RunnerError as error:
                for line in str(error).splitlines():
                    self._journal.say(line, "error")
                self._journal.say("not reloaded: all services keep running unchanged", "warning")
                return ReloadOutcome.REFUSED
            except Exception as error:  # noqa: BLE001 - a bug of ours, which must not end the watching of the files
                for line in "".join(traceback.format_exception(error)).splitlines():
                    self._journal.say(line, "error")
                return ReloadOutcome.REFUSED
            for line in taken.left:
                self._journal.say(line, "error")
            self._pass_on(taken)
            rest = ", except the changes above" if taken.left else ""
            self._journal.say(f"files reloaded{rest}")
            return ReloadOutcome.LEFT if taken.left else ReloadOutcome.DONE


#: What is looked at: the two files, and everything in the folder.
FILES, FOLDER = ("topology.yaml", "config.yaml"), "plugins"
#: Seconds between two looks at the files.
INTERVAL = 0.3
#: Seconds before a change is tried again that found the broker away.
TRY_AGAIN = 2.0

Signature = tuple[tuple[int, int, int], ...]


class Watch:
    """Looks at the files on a thread of its own, as editors on every file system let one do."""

    def __init__(self, folder: Path, reload: Reload) -> None:
        self._folder, self._reload = folder, reload
        self._seen = self._signature()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def _run(self) -> None:
        before = self._seen
        while True:
            time.sleep(INTERVAL)
            try:
                now = self._signature()
            except OSError:
                continue  # something is just being replaced
            # Twice the same, so that no half-written file is read.
            if now == before and now != self._seen:
                self._seen = now
                if self._reload.take() is ReloadOutcome.BROKER_AWAY:
                    time.sleep(TRY_AGAIN)
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
