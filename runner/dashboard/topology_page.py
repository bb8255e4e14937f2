"""The page Topology: both files with errors and findings, the changes in the files, the plan, and routes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, jsonify, render_template, request
from flask.typing import ResponseReturnValue

from runner.config.document import Document
from runner.config.project import CONFIG_FILE, TOPOLOGY_FILE
from runner.config.topology_file import PREDEFINED_EXCHANGES
from runner.dashboard.file_change import FileChange, changes_between
from runner.dashboard.file_check import CheckedFiles
from runner.dashboard.page_files import RunningFiles, stamp_of
from runner.dashboard.page_text import masked
from runner.dashboard.web_server import current_dashboard
from runner.dashboard.yaml_line import LineNote, NodeLinks, YamlLine, flow_address, yaml_lines
from runner.http import Problem
from runner.invocation import invocation
from runner.topology.route_report import InvalidMessage, RouteReport, parse_header, report_route

BLUEPRINT = Blueprint("topology", __name__)


@dataclass(frozen=True)
class ShownRoute:
    """The fields of the route tester, with the report or the reason why there is none."""

    exchange: str
    key: str
    header: str
    exchanges: tuple[str, ...]
    command: str = ""
    report: RouteReport | None = None
    problem: str = ""


@BLUEPRINT.get("/topology")
def show_topology() -> str:
    """Return the page."""
    dashboard = current_dashboard()
    frame = dashboard.collector.next_frame(1.5)
    running = dashboard.collector.files
    stamp = stamp_of(dashboard.folder)
    checked = dashboard.file_check.current(stamp)
    if checked.objects is not None:
        dashboard.plan.ensure((stamp, frame["versions"].get("broker")))
    find = request.args.get("find", "").strip()
    changes = _changes(running, checked)
    # A comparison may end at any time. All parts of the page show the same result.
    is_comparing, result = dashboard.plan.is_running, dashboard.plan.result
    plan_changes = [] if result is None else result.plan.get("changes", [])
    shown_changes = [one for one in plan_changes if _matches(find, one["name"], one["kind"], one["why"])]
    return render_template(
        "topology.html",
        find=find,
        checked=checked,
        running=running,
        files=_files(running, checked, find, masked if dashboard.settings.mask_personal_data else str),
        changes=None if changes is None else [one for one in changes if _matches(find, one.name, one.text, one.kind)],
        hidden_changes=0
        if changes is None
        else sum(not _matches(find, one.name, one.text, one.kind) for one in changes),
        is_same_text=_is_same_text(running, checked),
        is_comparing=is_comparing,
        result=result,
        plan_changes=shown_changes,
        hidden_plan_changes=len(plan_changes) - len(shown_changes),
        route=_route(running, checked),
        flow_address=flow_address,
        nodes=_nodes(running),
    )


@BLUEPRINT.post("/topology/plan")
def compare_now() -> ResponseReturnValue:
    """Compare the files with the broker now."""
    current_dashboard().plan.ask()
    return {"command": invocation("plan")}, 202


@BLUEPRINT.get("/route.json")
def show_route() -> ResponseReturnValue:
    """Return the bindings, edges and queues of a message in the running topology."""
    running = current_dashboard().collector.files
    if running.project is None or running.objects is None:
        raise Problem(503, "the files have errors; see /topology")
    arguments = request.args
    try:
        headers = dict(parse_header(one) for one in arguments.getlist("header"))
        report = report_route(
            running.project, running.objects, arguments.get("exchange", ""), arguments.get("key", ""), headers
        )
    except InvalidMessage as error:
        raise Problem(422, str(error)) from None
    return jsonify(
        refused=report.refusal,
        bindings=report.bindings,
        edges=report.edges,
        queues=list(report.route.queues),
    )


def _changes(running: RunningFiles, checked: CheckedFiles) -> list[FileChange] | None:
    """Return the differences from the running files, or None if the edited files have errors."""
    if running.project is None or running.objects is None or checked.objects is None:
        return None
    return changes_between(running.project, checked.project, running.objects, checked.objects)


def _is_same_text(running: RunningFiles, checked: CheckedFiles) -> bool:
    project = running.project
    return project is not None and all(
        mine.text == theirs.text
        for mine, theirs in (
            (checked.project.topology_document, project.topology_document),
            (checked.project.config_document, project.config_document),
        )
    )


def _matches(find: str, *texts: str) -> bool:
    return any(find.lower() in one.lower() for one in texts)


def _files(
    running: RunningFiles, checked: CheckedFiles, find: str, hide: Callable[[str], str]
) -> dict[str, list[YamlLine | None]]:
    notes: dict[str, dict[int, list[LineNote]]] = {
        TOPOLOGY_FILE: defaultdict(list), CONFIG_FILE: defaultdict(list),
    }  # fmt: skip
    for problem in checked.problems:
        notes[problem.file][problem.line].append(LineNote("bad", problem.text))
    for one in checked.findings:
        note = LineNote("warn", f"{one.reason}; {one.remedy}", one.code, one.name, one.rule.link)
        notes[one.file][checked.line_of(one)].append(note)
    links = NodeLinks(_nodes(running), _services(running))

    def lines(document: Document, before: Document | None) -> list[YamlLine | None]:
        text = None if before is None else before.text
        return yaml_lines(document, notes[document.file], links, text, find, hide)

    project, old = checked.project, running.project
    return {
        TOPOLOGY_FILE: lines(project.topology_document, None if old is None else old.topology_document),
        CONFIG_FILE: lines(project.config_document, None if old is None else old.config_document),
    }


def _nodes(running: RunningFiles) -> dict[str, str]:
    """Return the ids of the nodes of the picture by the names of exchanges and queues."""
    if running.objects is None:
        return {}
    queues = {
        one.name: f"queue {one.name}" for one in running.objects.queues if one.name not in running.objects.generated
    }
    return {**{one.name: f"exchange {one.name}" for one in running.objects.exchanges}, **queues}


def _services(running: RunningFiles) -> frozenset[str]:
    return frozenset() if running.project is None else frozenset(running.project.config.services)


def _route(running: RunningFiles, checked: CheckedFiles) -> ShownRoute:
    """Return the route in the edited files, or in the running files if the edited files have errors."""
    fields = request.args
    exchange, key, header = fields.get("exchange"), fields.get("key", ""), fields.get("header", "").strip()
    is_edited = checked.objects is not None
    project = checked.project if is_edited else running.project
    objects = checked.objects if is_edited else running.objects
    own = () if objects is None else tuple(one.name for one in objects.exchanges)
    shown = ShownRoute(exchange or "", key, header, (*own, *sorted(PREDEFINED_EXCHANGES)))
    if exchange is None or project is None or objects is None:
        return shown
    words = [part for one in header.split() for part in ("--header", one)]
    # A key that begins with a hyphen is not an option.
    keys = ["--", exchange, key] if exchange.startswith("-") or key.startswith("-") else [exchange, key]
    command = invocation("route", *words, *keys)
    try:
        report = report_route(project, objects, exchange, key, dict(parse_header(one) for one in header.split()))
    except InvalidMessage as error:
        return ShownRoute(exchange, key, header, shown.exchanges, command, problem=str(error))
    return ShownRoute(exchange, key, header, shown.exchanges, command, report)
