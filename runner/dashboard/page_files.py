"""The project's two YAML files as the page sees them: the running topology, and changes that are not applied yet."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runner.config.project import CONFIG_FILE, TOPOLOGY_FILE, Project, load_project
from runner.errors import ConfigError, RunnerError
from runner.preparation.applied_files import applied_folder, load_applied
from runner.topology.compile import compile_topology
from runner.topology.model import Objects

_PLACE = re.compile(r"(\S+\.yaml:\d+): (.*)", re.DOTALL)


@dataclass(frozen=True)
class RunningFiles:
    """The project and its topology, as the services run it."""

    project: Project | None = None
    objects: Objects | None = None
    #: The errors in the files: place and text.
    problems: list[dict[str, str]] = field(default_factory=list)


def read_files(folder: Path) -> RunningFiles:
    """Return the project in ``folder``, or the errors in its files."""
    return _read(lambda: load_project(folder))


def read_applied(folder: Path) -> RunningFiles:
    """Return the project that the supervisor has applied, or nothing if the supervisor has left no readable copy."""
    return _read(lambda: load_applied(folder))


def _read(load: Callable[[], Project | None]) -> RunningFiles:
    try:
        project = load()
        if project is None:
            return RunningFiles()
        return RunningFiles(project, compile_topology(project.topology, project.consumed))
    except ConfigError as error:
        return RunningFiles(problems=[_problem(line) for line in error.faults])
    except RunnerError as error:
        return RunningFiles(problems=[_problem(str(error))])


def stamp_of(folder: Path) -> tuple[object, ...]:
    """Return a value that changes whenever one of the files, or one of the applied copies, changes."""
    found: list[object] = []
    for path in (place / name for place in (folder, applied_folder(folder)) for name in (TOPOLOGY_FILE, CONFIG_FILE)):
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


def _problem(line: str) -> dict[str, str]:
    match = _PLACE.fullmatch(line)
    return {"place": match[1], "text": match[2]} if match else {"place": "", "text": line}
