"""The page Flow: the picture of the running topology, on which messages move."""

from __future__ import annotations

import json

from flask import Blueprint, Response, render_template, request
from markupsafe import Markup

from runner.dashboard.flow_picture import FlowPictures, svg_of
from runner.dashboard.web_server import current_dashboard
from runner.topology.picture.drawing import Form
from runner.topology.picture.mark_shape import STATES
from runner.topology.picture.picture_style import page_style

BLUEPRINT = Blueprint("flow", __name__)
PICTURES = FlowPictures()


@BLUEPRINT.get("/")
def show_flow() -> str:
    """Return the page."""
    collector = current_dashboard().collector
    frame = collector.next_frame(1.5)
    asked = request.args.get("form", "")
    drawing = PICTURES.drawing(collector.files, Form(asked) if asked in list(Form) else None)
    return render_template(
        "flow.html",
        picture=None if drawing is None else Markup(svg_of(drawing, frame)),  # noqa: S704 - all names are escaped
        form=None if drawing is None else drawing.form.value,
        exchanges=[node.name for node in drawing.nodes if node.shape == "exchange"] if drawing is not None else [],
        problems=collector.files.problems,
        marks=json.dumps(STATES),
    )


@BLUEPRINT.get("/picture.css")
def show_style() -> Response:
    """Return the rules of the picture, which files of the picture contain too."""
    answer = Response(page_style(), mimetype="text/css", headers={"Cache-Control": "no-cache"})
    answer.add_etag()
    answer.make_conditional(request)
    return answer
