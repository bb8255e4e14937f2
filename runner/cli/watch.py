"""``run --watch``: what is saved in either file or in a plugin takes effect while everything else runs on."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from runner.cli.check import checked_project
from runner.cli.declaration import Declaration
from runner.config.project import CONFIG_FILE, TOPOLOGY_FILE, Project
from runner.errors import BrokerError, RunnerError
from runner.plugins import FOLDER
from runner.supervisor.console import Console
from runner.supervisor.program import Program
from runner.topology.model import Objects

#: Seconds between two looks at the files.
INTERVAL = 0.3
#: Seconds before a change is tried again that found the broker away.
TRY_AGAIN = 2.0

Signature = tuple[tuple[int, int, int], ...]


class Watch:
    """Looks at the files on a thread of its own, as editors on every file system let one do."""

    def __init__(
        self,
        folder: Path,
        declaration: Declaration,
        programs_of: Callable[[Project, Objects], list[Program]],
        update: Callable[[list[Program]], None],
        console: Console,
    ) -> None:
        self._folder, self._declaration = folder, declaration
        self._programs_of, self._update, self._console = programs_of, update, console
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
                self._take()
            before = now

    def _signature(self) -> Signature:
        files = [self._folder / TOPOLOGY_FILE, self._folder / CONFIG_FILE]
        plugins = sorted((self._folder / FOLDER).rglob("*"))
        files += [path for path in plugins if path.is_file() and "__pycache__" not in path.parts]
        return tuple(_signature_of(path) for path in files)

    def _take(self) -> None:
        """Take over what is saved; whatever is wrong with it, all stays as it was."""
        say = self._console.say
        try:
            project, objects = checked_project(self._folder)
            if project.config.broker != self._declaration.project.config.broker:
                number = project.config_document.line(("broker",))
                raise RunnerError(
                    f"{CONFIG_FILE}:{number}: broker: is taken at the start; stop the runner and start it"
                )
            programs = self._programs_of(project, objects)
            left = self._declaration.take_over(project)
        except BrokerError as error:
            say(f"files changed, but the broker is away: {error}; tried again in {TRY_AGAIN:g} s", "warning")
            time.sleep(TRY_AGAIN)
            self._seen = ()
            return
        except RunnerError as error:
            for line in str(error).splitlines():
                say(line, "error")
            say("files changed, but not taken over: everything runs on as it was", "warning")
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the next change is looked at all the same
            for line in "".join(traceback.format_exception(error)).splitlines():
                say(line, "error")
            say("files changed, but not taken over: everything runs on as it was", "warning")
            return
        for line in left:
            say(line, "error")
        self._update(programs)
        say("files changed: taken over" + (", but for what would have to be replaced" if left else ""))


def _signature_of(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
