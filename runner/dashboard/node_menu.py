"""The menus of services, slots, queues and exchanges, with all actions on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, render_template, request

from runner.config.document import Document
from runner.config.project import CONFIG_FILE, TOPOLOGY_FILE, Project
from runner.dashboard.order_form import current_api
from runner.dashboard.web_server import Dashboard, current_dashboard
from runner.faults.active import FaultFolder
from runner.http import Problem
from runner.invocation import invocation

BLUEPRINT = Blueprint("node_menu", __name__)
#: The states of a slot that ``start`` changes.
STARTABLE = ("STOPPED", "EXITED", "FATAL")


@dataclass(frozen=True)
class ServiceFacts:
    """The facts on which the actions of a service depend."""

    name: str
    instances: int
    #: The reason why the number of instances cannot be changed here, or an empty text.
    fixed: str
    #: True if the service is in config.yaml, so that faults can be injected.
    is_configured: bool
    #: True if the service consumes queues, so that its handlers can be delayed.
    is_consumer: bool
    #: True if this service serves the page.
    is_page: bool


def facts_of(name: str, frame: Mapping[str, Any], project: Project | None, page: str) -> ServiceFacts:
    """Return the facts about a service. ``page`` is the name of the service that serves the page."""
    settings = None if project is None else project.config.services.get(name)
    fixed = ""
    if settings is None:
        fixed = "only one process can use its data"
    elif (scale := settings.autoscale) is not None:
        fixed = f"scaled automatically, from {scale.min} to {scale.max}"
    return ServiceFacts(
        name, frame["services"].get(name, {}).get("count", 0), fixed, settings is not None,
        settings is not None and bool(settings.consumes), name == page,
    )  # fmt: skip


def fault_problem(dashboard: Dashboard, frame: Mapping[str, Any]) -> str:
    """Return a sentence about how to turn on fault injection, or an empty text if it is on."""
    project = dashboard.collector.files.project
    if project is None or not project.config.fault_injection:
        return f"To kill, slow or pause processes, add this line to {CONFIG_FILE}, and restart the supervisor:"
    pid = frame["runner"].get("pid")
    if pid is None or FaultFolder(project.var).is_on(int(pid)):
        return ""
    return f"The supervisor was started without this line of {CONFIG_FILE}. To inject faults, restart the supervisor:"


def _takes_poison(dashboard: Dashboard, frame: Mapping[str, Any], queue: str) -> bool:
    """Return True if a poison message can be published to a queue. The command requires a service as consumer."""
    project = dashboard.collector.files.project
    if project is None or fault_problem(dashboard, frame):
        return False
    return any(queue in one.consumes for one in project.config.services.values())


@BLUEPRINT.get("/menu")
def show_menu() -> str:
    """Return the menu of a node, such as ``service payment`` or ``queue payment.order.created``. Raises Problem."""
    kind, _, name = request.args.get("node", "").partition(" ")
    dashboard = current_dashboard()
    frame, files = dashboard.collector.current(), dashboard.collector.files
    match kind:
        case "service" | "slot":
            return _show_service(dashboard, frame, kind, name)
        case "queue" if files.objects is not None and name in {one.name for one in files.objects.queues}:
            # After a start or a reload, the first frame does not contain all queues yet.
            figures = frame["queues"].get(name, {"ready": None, "unacked": None})
            retry = files.objects.retry_delays.get(name)
            dead_letter = None if retry is None else retry.dead_letter
            place = _place(dashboard, TOPOLOGY_FILE, "queues", name)
            return render_template(
                "menu_queue.html", name=name, queue=figures, dead_letter=dead_letter, place=place,
                takes_poison=_takes_poison(dashboard, frame, name),
            )  # fmt: skip
        case "exchange" if files.objects is not None and name in {one.name for one in files.objects.exchanges}:
            place = _place(dashboard, TOPOLOGY_FILE, "exchanges", name)
            exchange = next(one for one in files.objects.exchanges if one.name == name)
            return render_template("menu_exchange.html", exchange=exchange, place=place)
    raise Problem(404, f"unknown node, {request.args.get('node', '')!r}; allowed: a node of the picture")


def _show_service(dashboard: Dashboard, frame: Mapping[str, Any], kind: str, name: str) -> str:
    slots = [one for key, one in frame["slots"].items() if name == (one["service"] if kind == "service" else key)]
    service = next((one["service"] for one in slots), name)
    if service not in frame["services"]:
        raise Problem(404, f"unknown {kind}, {name!r}; allowed: a {kind} of the running system")
    api = current_api()
    return render_template(
        "menu_service.html",
        service=facts_of(service, frame, dashboard.collector.files.project, dashboard.service),
        target=name,
        is_slot=kind == "slot",
        is_startable=all(one["state"] in STARTABLE for one in slots),
        place=_place(dashboard, CONFIG_FILE, "services", service),
        accepts_orders=api is not None and api.service == service,
        fault_problem=fault_problem(dashboard, frame),
        fault_remedy=invocation("down"),
    )


def _place(dashboard: Dashboard, file: str, *path: str) -> str:
    """Return the file and the line of an entry, or an empty text if the entry is not in the file."""
    try:
        document = Document(file, (dashboard.folder / file).read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    section = document.data.get(path[0])
    is_there = isinstance(section, dict) and path[1] in section
    return f"{file}:{document.line(path)}" if is_there else ""
