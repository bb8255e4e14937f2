"""The check of the edited files: errors at once, and lint findings when a separate process has checked the plugins."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from runner.config.project import CONFIG_FILE, TOPOLOGY_FILE, Project, read_project
from runner.errors import ConfigError, RunnerError
from runner.inspection.checked_project import checked_project
from runner.topology.compile import compile_topology
from runner.topology.finding import Finding
from runner.topology.lint_rules import findings_of
from runner.topology.model import Objects

_PLACE = re.compile(r"(topology\.yaml|config\.yaml):(\d+): (.*)", re.DOTALL)


@dataclass(frozen=True)
class FileProblem:
    """An error at a line of one of the files."""

    file: str
    line: int
    text: str

    @property
    def place(self) -> str:
        """The place, such as ``topology.yaml:14``."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class CheckedFiles:
    """The files as they are on the disk, with all their errors and findings."""

    #: The value of ``stamp_of`` for these files.
    stamp: tuple[object, ...]
    #: The project. If there are problems, its models lack the wrong values.
    project: Project
    problems: tuple[FileProblem, ...]
    #: The compiled topology, or None if there are problems.
    objects: Objects | None = None
    findings: tuple[Finding, ...] = ()
    #: False while the plugins are being checked.
    is_complete: bool = True

    def line_of(self, finding: Finding) -> int:
        """Return the line of a finding in its file."""
        document = self.project.topology_document if finding.file == TOPOLOGY_FILE else self.project.config_document
        return document.line(finding.path)


class FileCheck:
    """The check of the files in a folder. Any thread may call its methods."""

    def __init__(self, folder: Path, changed: Callable[[], None]) -> None:
        """``changed`` is called when the check of the plugins is complete."""
        self._folder, self._changed = folder, changed
        self._lock = threading.Lock()
        self._checked: CheckedFiles | None = None
        self._thread: threading.Thread | None = None

    def current(self, stamp: tuple[object, ...]) -> CheckedFiles:
        """Return the check of the files with this stamp. The plugins are checked later, in a thread."""
        with self._lock:
            if self._checked is None or self._checked.stamp != stamp:
                self._checked = self._read(stamp)
                if self._checked.objects is not None:
                    self._thread = threading.Thread(
                        target=self._complete, args=(self._checked,), name="file-check", daemon=True
                    )
                    self._thread.start()
            return self._checked

    def wait(self) -> None:
        """Wait until the last check of the plugins is complete."""
        if self._thread is not None:
            self._thread.join()

    def _read(self, stamp: tuple[object, ...]) -> CheckedFiles:
        project = read_project(self._folder)
        faults = [*sorted(set(project.topology_document.faults)), *sorted(set(project.config_document.faults))]
        if faults:
            return CheckedFiles(stamp, project, tuple(problem_in(str(one)) for one in faults))
        try:
            objects = compile_topology(project.topology, project.consumed)
        except ConfigError as error:
            return CheckedFiles(stamp, project, tuple(problem_in(one) for one in error.faults))
        return CheckedFiles(stamp, project, (), objects, is_complete=False)

    def _complete(self, checked: CheckedFiles) -> None:
        try:
            project, objects = checked_project(self._folder)
            found = replace(checked, project=project, objects=objects, findings=tuple(findings_of(project)))
        except ConfigError as error:
            found = replace(checked, objects=None, problems=tuple(problem_in(one) for one in error.faults))
        except RunnerError as error:
            found = replace(checked, problems=(problem_in(str(error)),))
        with self._lock:
            if self._checked is not checked:
                return  # another edit has been checked meanwhile
            self._checked = replace(found, is_complete=True)
        self._changed()


def problem_in(line: str) -> FileProblem:
    """Return the error in a line such as ``topology.yaml:14: queues: …``. Other errors are about the first line."""
    match = _PLACE.fullmatch(line)
    return FileProblem(match[1], int(match[2]), match[3]) if match else FileProblem(CONFIG_FILE, 1, line)
