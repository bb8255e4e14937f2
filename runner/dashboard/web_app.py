"""The Flask application of the page: its pages, the live stream, and the actions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, request
from flask.typing import ResponseReturnValue

from runner.dashboard import (
    dead_letters_page,
    flow_page,
    learn_page,
    metrics_page,
    node_menu,
    order_form,
    orders_page,
    services_page,
    topology_page,
)
from runner.dashboard.access_guard import AccessGuard
from runner.dashboard.page_action import ACTIONS, InvalidField, command_line, preview_line
from runner.dashboard.page_job import WAIT_SECONDS, PageJob, TooManyJobs
from runner.dashboard.page_text import FILTERS, masked
from runner.dashboard.sprite import sprite
from runner.http import Problem, stream
from runner.invocation import invocation

if TYPE_CHECKING:
    from runner.dashboard.web_server import Dashboard

#: The pages and the parts of pages.
PAGES = (
    dead_letters_page.BLUEPRINT,
    flow_page.BLUEPRINT,
    learn_page.BLUEPRINT,
    metrics_page.BLUEPRINT,
    node_menu.BLUEPRINT,
    order_form.BLUEPRINT,
    orders_page.BLUEPRINT,
    services_page.BLUEPRINT,
    topology_page.BLUEPRINT,
)
#: The navigation: the URL and the name of each page.
NAVIGATION = (
    ("/", "Flow"),
    ("/orders", "Orders"),
    ("/services", "Services"),
    ("/dead-letters", "Dead letters"),
    ("/topology", "Topology"),
    ("/learn", "Learn"),
)


def create_app(dashboard: Dashboard) -> Flask:
    """Create the application of a dashboard."""
    app = Flask("runner.dashboard", static_url_path="/static")
    app.extensions["dashboard"] = dashboard
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    guard = AccessGuard(dashboard.settings)
    guard.protect(app)
    for blueprint in PAGES:
        app.register_blueprint(blueprint)
    app.jinja_env.filters.update(FILTERS)
    app.jinja_env.filters["masked"] = lambda text: masked(text) if dashboard.settings.mask_personal_data else text
    app.jinja_env.globals.update(
        command=invocation, navigation=NAVIGATION, order_api=order_form.current_api, sprite=sprite
    )

    @app.before_request
    def note_versions() -> None:
        # A change while a page is being rendered makes the page ask again.
        g.versions = dashboard.collector.versions

    @app.context_processor
    def shared() -> dict[str, Any]:
        frame = dashboard.collector.current()
        return {"csrf_token": guard.csrf_token, "frame": frame, "folder": dashboard.folder, "versions": g.versions}

    _add_live(app, dashboard, guard)
    _add_actions(app, dashboard)
    return app


def _add_live(app: Flask, dashboard: Dashboard, guard: AccessGuard) -> None:
    collector = dashboard.collector

    @app.get("/stream")
    def live_stream() -> Response:
        return stream(collector.feed)

    @app.get("/live")
    def live_frame() -> Response:
        """Return the whole frame, for a page that opens, has lost frames, or polls."""
        answer = Response(json.dumps({**collector.current(), "csrf": guard.csrf_token}), mimetype="application/json")
        answer.add_etag()
        answer.headers["Cache-Control"] = "no-cache"
        answer.make_conditional(request)
        return answer


def _arguments(name: str, line_of: Callable[[str, Mapping[str, str]], list[str]]) -> list[str]:
    """Return the arguments of an action's command line, from the fields of the current request. Raises Problem."""
    if name not in ACTIONS:
        raise Problem(404, f"unknown action, {name!r}; allowed: {', '.join(sorted(ACTIONS))}")
    try:
        return line_of(name, request.values)
    except InvalidField as error:
        raise Problem(422, str(error)) from None


def _add_actions(app: Flask, dashboard: Dashboard) -> None:
    @app.post("/actions/<name>")
    def act(name: str) -> ResponseReturnValue:
        """Run an action, and return its job. A job that takes longer than ``WAIT_SECONDS`` continues."""
        arguments = _arguments(name, command_line)
        try:
            job = dashboard.jobs.start([*arguments, *ACTIONS[name].consent], invocation(*arguments))
        except TooManyJobs:
            raise Problem(503, "too many commands are running; wait for one of them, or stop it") from None
        job.wait(0 if "no_wait" in request.form else WAIT_SECONDS)
        return dashboard.shown(job)

    @app.get("/actions/<name>")
    def show_command(name: str) -> ResponseReturnValue:
        """Return the command line of an action, or the error in a field that a person is still editing."""
        try:
            return {"command": invocation(*_arguments(name, preview_line))}
        except Problem as problem:
            return {"command": "", "problem": problem.detail}

    @app.get("/jobs/<id>")
    def show_job(id: str) -> ResponseReturnValue:
        return dashboard.shown(_job(id))

    @app.post("/jobs/<id>/stop")
    def stop_job(id: str) -> ResponseReturnValue:
        job = _job(id)
        job.interrupt()
        job.wait(WAIT_SECONDS)
        return dashboard.shown(job)

    def _job(id: str) -> PageJob:
        job = dashboard.jobs.get(id)
        if job is None:
            raise Problem(404, f"unknown command, {id!r}; it was started before the dashboard's last start")
        return job
