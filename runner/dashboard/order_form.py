"""The form with which a person posts orders, and the service that accepts them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from runner.config.project import Project
from runner.dashboard.order_post import OrderPost, PostJob, post_of
from runner.dashboard.page_action import InvalidField
from runner.dashboard.page_job import WAIT_SECONDS, TooManyJobs
from runner.dashboard.web_server import current_dashboard
from runner.http import Problem
from runner.supervisor.control.client import post_note

BLUEPRINT = Blueprint("order_form", __name__)
_LISTENING = re.compile(r"\blistening on (http://[^\s;,]+)")
#: The local address of a server that listens on all addresses.
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


@dataclass(frozen=True)
class OrderApi:
    """The service that accepts orders over HTTP. The URL is empty while the service does not listen."""

    service: str
    url: str


def find_api(frame: Mapping[str, Any], project: Project | None) -> OrderApi | None:
    """Return the service that publishes events, consumes no queue, and listens for HTTP requests.

    Return None if no service of the project is of this kind.
    """
    services = {} if project is None else project.config.services
    sources = [name for name, one in services.items() if one.publishes and not one.consumes]
    for slot in frame["slots"].values():
        found = _LISTENING.search(slot.get("why") or "")
        if found and slot["service"] in sources and slot["state"] == "RUNNING":
            address = urlsplit(found[1]).netloc
            host, _, port = address.rpartition(":")
            return OrderApi(slot["service"], f"http://{_ANY.get(host, host)}:{port}")
    return OrderApi(sources[0], "") if sources else None


def current_api() -> OrderApi | None:
    """Return the order API of the system that the page shows, or None if there is none."""
    collector = current_dashboard().collector
    return find_api(collector.current(), collector.files.project)


def _requested(*, is_repeated: bool) -> OrderPost:
    """Return the orders of the current request. Raises Problem."""
    api = current_api()
    if api is None or not api.url:
        reason = "no service accepts orders" if api is None else f"{api.service} does not listen at present"
        raise Problem(503, f"{reason}; see the page Services")
    try:
        return post_of(request.values, api.url, is_repeated=is_repeated)
    except InvalidField as error:
        raise Problem(422, str(error)) from None


def _start(*, is_repeated: bool) -> ResponseReturnValue:
    dashboard, post = current_dashboard(), _requested(is_repeated=is_repeated)
    try:
        job = dashboard.jobs.add(lambda id: PostJob(id, post))
    except TooManyJobs:
        raise Problem(503, "too many commands are running; wait for one of them, or stop it") from None
    if is_repeated:
        text = f"{post.count} orders are posted from the page, {post.rate} a second"
        post_note(dashboard.folder, "command", "orders", text)
    job.wait(0 if is_repeated else WAIT_SECONDS)
    return dashboard.shown(job)


def _command(*, is_repeated: bool) -> ResponseReturnValue:
    try:
        return {"command": _requested(is_repeated=is_repeated).command}
    except Problem as problem:
        return {"command": "", "problem": problem.detail}


@BLUEPRINT.get("/actions/post_order")
def show_post() -> ResponseReturnValue:
    """Return the command line that posts one order, or the error in a field."""
    return _command(is_repeated=False)


@BLUEPRINT.get("/actions/post_orders")
def show_posts() -> ResponseReturnValue:
    """Return the command line that posts many orders, or the error in a field."""
    return _command(is_repeated=True)


@BLUEPRINT.post("/actions/post_order")
def post_order() -> ResponseReturnValue:
    """Post one order, and return the job with the answer."""
    return _start(is_repeated=False)


@BLUEPRINT.post("/actions/post_orders")
def post_orders() -> ResponseReturnValue:
    """Post orders at a rate, and return the job."""
    return _start(is_repeated=True)
