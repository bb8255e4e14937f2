"""The learner's files: what was changed, whether they can run, and the lines of their settings."""

from __future__ import annotations

import difflib
import json
import os
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from runner.bounded_file import FileTooLarge, read_bounded
from runner.config.document import MAX_BYTES, Document
from runner.config.project import Project, load_project
from runner.errors import ConfigError
from runner.learn.exercise import Exercise
from runner.learn.files_seen import FilesSeen
from runner.learn.program_run import run_program
from runner.learn.submitted_file import file_names, file_problem
from runner.topology.compile import compile_topology
from runner.topology.offline_routing import OfflineRouter

#: Seconds for a check of the plugins.
TIMEOUT = 30.0


class LearnerFiles:
    """The files of one exercise in the learner's folder."""

    def __init__(self, exercise: Exercise, folder: Path, prediction: str = "") -> None:
        self.exercise, self.folder, self._prediction = exercise, folder, prediction
        self._config_errors: list[str] = []
        self._project: Project | None = None

    def refusal(self) -> list[str] | None:
        """Return the errors in files that cannot be checked, or None."""
        wrong = self._wrong_changes()
        if wrong:
            return wrong
        try:
            self._project = load_project(self.folder)
        except ConfigError as error:
            self._config_errors = error.faults
            return error.faults
        return None

    def started_with(self, lines: Sequence[str]) -> list[str]:
        """Return the errors of plugins with the learner's lines. ``lines`` are the errors of the trial."""
        try:
            found = self._command("check", "--json")
            self._config_errors = [str(one) for one in json.loads(found).get("faults", ())] or list(lines)
        except ValueError:
            self._config_errors = list(lines)
        self.__dict__.pop("seen", None)
        return self._config_errors

    @cached_property
    def seen(self) -> FilesSeen:
        """The facts that can be read from the files alone."""
        return FilesSeen(self._config_errors, self._codes, self._changed_lines(), self._prediction, self._route)

    def _route(self, exchange: str, key: str) -> Sequence[str]:
        return () if self._router is None else self._router.route(exchange, key).queues

    @cached_property
    def _router(self) -> OfflineRouter | None:
        """The routes, or None for files with configuration errors."""
        project = self._project
        return None if project is None else OfflineRouter(compile_topology(project.topology, project.consumed))

    def _wrong_changes(self) -> list[str]:
        allowed = ", ".join(self.exercise.file.edit)
        mine, theirs = file_names(self.folder), file_names(self.exercise.starter)
        if self.folder.is_symlink():
            return [f"{self.folder.name}: is a symbolic link; allowed: a folder"]
        problems = {name: file_problem(self.folder / name) for name in sorted(mine)}
        found = [f"{name}: {problem}" for name, problem in problems.items() if problem is not None]
        for name in sorted(mine | theirs):
            if self.exercise.may_edit(name) or problems.get(name) is not None:
                continue
            if name in mine & theirs and _text(self.folder / name) == _text(self.exercise.starter / name):
                continue
            what = (
                "is missing" if name not in mine else "was changed" if name in theirs else "is not part of the exercise"
            )
            found.append(f"{name}: {what}; allowed: changes to {allowed}; learn reset restores the first files")
        return found

    def _changed_lines(self) -> int:
        """Return the number of lines that were added, replaced, or removed without a replacement."""
        count = 0
        for name in file_names(self.folder) | file_names(self.exercise.starter):
            before, after = (_text(one / name).splitlines() for one in (self.exercise.starter, self.folder))
            for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after).get_opcodes():
                count += 0 if kind == "equal" else max(b - a, d - c)
        return count

    @cached_property
    def _findings(self) -> list[dict[str, str]]:
        output = self._command("lint", "--json")
        try:
            return list(json.loads(output))
        except ValueError:
            # Files with errors have no findings. The check reports the errors instead.
            return []

    @property
    def _codes(self) -> list[str]:
        needs = any(
            saw.finding for task in self.exercise.file.tasks for one in task.when_wrong for saw in one.saw
        ) or any(one.finding for task in self.exercise.file.tasks for one in (*task.expect, *task.never))
        # The search for findings takes half a second, so it runs only if the findings are needed.
        return [one["code"] for one in self._findings] if needs else []

    def finding_lines(self) -> list[str]:
        """Return the lint findings as lines, for a failed task."""
        ignored = self.exercise.file.ignored_findings
        shown = [one for one in self._findings if one["code"] not in ignored]
        return [f"{one['where']}: {one['reason']}; {one['remedy']}" for one in shown]

    def _command(self, *arguments: str) -> str:
        try:
            return run_program(self.folder, *arguments, timeout=TIMEOUT).stdout
        except subprocess.TimeoutExpired:
            return ""  # a plugin whose import does not end

    def place(self, look: Sequence[str]) -> str:
        """Return a place as ``file:line``. ``look`` is a file and the keys of a setting in it."""
        if not look:
            return ""
        name, *keys = look
        if not name.endswith(".yaml"):
            return name
        document = Document(name, _text(self.folder / name), dict(os.environ))
        return f"{name}:{document.line(tuple(keys))}"

    def line_at(self, place: str) -> str:
        """Return the text of the line at ``file:line``, or an empty string if there is no such line."""
        name, _, number = place.rpartition(":")
        if not name or not number.isdigit():
            return ""
        lines = _text(self.folder / name).splitlines()
        return lines[int(number) - 1].rstrip() if 0 < int(number) <= len(lines) else ""


def _text(path: Path) -> str:
    try:
        return read_bounded(path, MAX_BYTES).decode("utf-8", "replace")
    except (OSError, FileTooLarge):
        return ""
