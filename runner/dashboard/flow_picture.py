"""The picture of the running topology for the page Flow, in which known nodes keep their places."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

from runner.dashboard.page_files import RunningFiles
from runner.dashboard.page_text import number
from runner.topology.graph import graph_of
from runner.topology.picture.drawing import Drawing, Form
from runner.topology.picture.layout import WIDTH, layout
from runner.topology.picture.svg_writer import svg_part

LABEL = "Services, exchanges and queues with live figures"


class FlowPictures:
    """The drawings of the running topology, one for each form."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._drawings: dict[Form | None, tuple[RunningFiles, Drawing]] = {}

    def drawing(self, files: RunningFiles, form: Form | None) -> Drawing | None:
        """Return the drawing of some files, or None if the files cannot be read.

        ``form`` is None for the form that suits the number of nodes.
        """
        if files.project is None or files.objects is None:
            return None
        with self._lock:
            known = self._drawings.get(form)
            if known is None or known[0] is not files:
                graph = graph_of(files.objects, files.project.config.services)
                before = None if known is None else known[1]
                known = self._drawings[form] = (files, layout(graph, form, is_live=True, previous=before))
            return known[1]


def svg_of(drawing: Drawing, frame: Mapping[str, Any]) -> str:
    """Return the SVG element of a drawing with the figures of a frame."""
    figures: dict[str, str] = {}
    for table in ("queues", "services"):
        for name, values in frame[table].items():
            figures |= {f"{table}/{name}/{key}": _text(value) for key, value in values.items()}
    return svg_part(drawing, figures, LABEL, WIDTH)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else number(value) if isinstance(value, int | float | None) else str(value)
