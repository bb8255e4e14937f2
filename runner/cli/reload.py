"""Take over what both files and the plugins say now, while everything else runs on."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path

from runner.cli.check import checked_project
from runner.cli.declaration import Declaration
from runner.config.project import CONFIG_FILE, Project
from runner.errors import BrokerError, RunnerError
from runner.supervisor.journal import Journal
from runner.supervisor.program import Program
from runner.topology.model import Objects


class Outcome(Enum):
    """How it went."""

    DONE = "done"
    #: All but what would have to be replaced on the broker.
    LEFT = "left"
    REFUSED = "refused"
    BROKER_AWAY = "broker away"


class Reload:
    """Checks everything first; whatever is wrong, all runs on as it was. From any thread, one at a time."""

    def __init__(
        self,
        folder: Path,
        declaration: Declaration,
        programs_of: Callable[[Project, Objects], list[Program]],
        update: Callable[[Sequence[Program]], None],
        journal: Journal,
    ) -> None:
        self._folder, self._declaration = folder, declaration
        self._programs_of, self._update, self._journal = programs_of, update, journal
        self._lock = threading.Lock()

    def take(self) -> Outcome:
        """Do it; what happens is said in the journal."""
        with self._lock:
            try:
                return self._take()
            except BrokerError as error:
                self._journal.say(f"not taken over, the broker is away: {error}", "warning")
                return Outcome.BROKER_AWAY
            except RunnerError as error:
                lines = str(error).splitlines()
            except Exception as error:  # noqa: BLE001 - a bug of ours must not stop what runs; it keeps its traceback
                lines = "".join(traceback.format_exception(error)).splitlines()
            for line in lines:
                self._journal.say(line, "error")
            self._journal.say("not taken over: everything runs on as it was", "warning")
            return Outcome.REFUSED

    def _take(self) -> Outcome:
        project, objects = checked_project(self._folder)
        before = self._declaration.project.config
        for part in ("broker", "runner"):
            if getattr(project.config, part) != getattr(before, part):
                number = project.config_document.line((part,))
                raise RunnerError(
                    f"{CONFIG_FILE}:{number}: {part}: is taken at the start; stop the runner and start it"
                )
        programs = self._programs_of(project, objects)
        left = self._declaration.take_over(project)
        for line in left:
            self._journal.say(line, "error")
        self._update(programs)
        rest = ", but for what would have to be replaced" if left else ""
        self._journal.say(f"files taken over{rest}")
        return Outcome.LEFT if left else Outcome.DONE
