"""The page Flow: the picture of the running topology, on which messages move."""

from __future__ import annotations

from flask import Blueprint, render_template
from markupsafe import Markup

from runner.dashboard.web_server import current_dashboard
from runner.topology.graph import graph_of
from runner.topology.picture import svg

BLUEPRINT = Blueprint("flow", __name__)


@BLUEPRINT.get("/")
def show_flow() -> str:
    """Return the page."""
    dashboard = current_dashboard()
    dashboard.collector.next_frame(1.5)
    files = dashboard.collector.files
    picture = ""
    if files.project is not None and files.objects is not None:
        picture = svg(graph_of(files.objects, files.project.config.services))
    return render_template("flow.html", picture=Markup(picture))  # noqa: S704 - the picture escapes all names
