"""The project's two YAML files as the page sees them: the running topology, and changes that are not applied yet."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from runner.config.project import CONFIG_FILE, TOPOLOGY_FILE, Project, load_project
from runner.errors import ConfigError, RunnerError
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
    try:
        project = load_project(folder)
        return RunningFiles(project, compile_topology(project.topology, project.consumed))
    except ConfigError as error:
        return RunningFiles(problems=[_problem(line) for line in str(error).splitlines()])
    except RunnerError as error:
        return RunningFiles(problems=[_problem(str(error))])


def stamp_of(folder: Path) -> tuple[object, ...]:
    """Return a value that changes whenever one of the files changes."""
    found: list[object] = []
    for name in (TOPOLOGY_FILE, CONFIG_FILE):
        try:
            status = (folder / name).stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


def _problem(line: str) -> dict[str, str]:
    match = _PLACE.fullmatch(line)
    return {"place": match[1], "text": match[2]} if match else {"place": "", "text": line}
