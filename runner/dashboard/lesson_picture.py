"""The picture of the topology in a learner's folder."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from markupsafe import Markup

from runner.config.project import load_project
from runner.errors import RunnerError
from runner.topology.compile import compile_topology
from runner.topology.graph import graph_of
from runner.topology.picture.layout import layout
from runner.topology.picture.svg_writer import svg_part


def lesson_picture(folder: Path, starter: Path, version: str) -> Markup:
    """Return the picture of the files in ``folder``, or of the original files while the learner's files have errors.

    ``version`` stands for the files, whose picture is kept until the next save.
    """
    return _drawn(folder, version) or _drawn(starter, "")


@lru_cache(maxsize=32)
def _drawn(folder: Path, _version: str) -> Markup:
    try:
        project = load_project(folder)
        objects = compile_topology(project.topology, project.consumed)
    except RunnerError:
        return Markup("")
    drawing = layout(graph_of(objects, project.config.services))
    return Markup(svg_part(drawing, {}, "Services, exchanges and queues of the exercise"))  # noqa: S704 - names are escaped
