"""The page Services: the state of each slot with its reason, the log of a slot, and the actions of services."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, render_template, request

from runner.config.project import Project
from runner.dashboard.node_menu import STARTABLE, ServiceFacts, facts_of
from runner.dashboard.page_text import MISSING, clock, masked
from runner.dashboard.rate_history import RateHistory
from runner.dashboard.web_server import current_dashboard
from runner.supervisor.control.follow import RUNNER

BLUEPRINT = Blueprint("services", __name__)
#: The width and the height of the chart of a slot in pixels.
CHART = (96, 24)
#: The level of a slot with a problem, by its state.
_LEVELS = {"FATAL": "bad", "BACKOFF": "warn", "WAITING": "warn", "STOPPED": "off"}


@dataclass(frozen=True)
class SlotRow:
    """A slot as the table shows it."""

    key: str
    figures: Mapping[str, Any]
    #: ``bad``, ``warn`` or ``off`` if the slot has a problem, or an empty text.
    level: str
    #: The last exit in one line, or an empty text if the last exit does not matter.
    last_exit: str
    #: The last line that a failed process printed, or an empty text.
    last_line: str
    #: The chart of the rate as SVG paths: the line and the area below it.
    line: str
    area: str

    @property
    def is_holder(self) -> bool:
        """True for the process to which commands with the slot's name apply."""
        return bool(self.figures["role"] == "holder")

    @property
    def is_startable(self) -> bool:
        """True if ``start`` starts the slot."""
        return self.figures["state"] in STARTABLE


@dataclass(frozen=True)
class ServiceRows:
    """A service with its slots."""

    facts: ServiceFacts
    slots: list[SlotRow]


def rows_of(
    frame: Mapping[str, Any], project: Project | None, rates: RateHistory, page: str, words: str = ""
) -> list[ServiceRows]:
    """Return the services whose name, or a slot's name, contains ``words``. ``page`` serves the page."""
    wanted = words.strip().lower()
    found = []
    for name in frame["services"]:
        slots = [_row(key, one, rates) for key, one in frame["slots"].items() if one["service"] == name]
        shown = [one for one in slots if wanted in one.key.lower()]
        if wanted in name.lower() or shown:
            found.append(ServiceRows(facts_of(name, frame, project, page), shown or slots))
    return found


def _row(key: str, slot: Mapping[str, Any], rates: RateHistory) -> SlotRow:
    level = _LEVELS.get(slot["state"], "")
    last = slot["last_exit"]
    if slot["state"] == "RUNNING" and slot["problem"]:
        level = "warn"
    if slot["state"] == "EXITED" and last is not None and last["code"] != 0:
        level = "bad"
    matters = last is not None and (slot["restarts"] or level in ("bad", "warn"))
    text = f"last exit {clock(last['at'])}: {last['words']}" if matters and last is not None else ""
    width, height = CHART
    lines = rates.points(key, width, height)
    paths = ["L".join(f"{x} {y}" for x, y in points) for points in lines]
    return SlotRow(
        key, slot, level, text, (slot.get("lines") or [""])[-1],
        "".join(f"M{path}h.1" for path in paths),
        "".join(f"M{one[0][0]} {height}L{path}V{height}Z" for path, one in zip(paths, lines, strict=True)),
    )  # fmt: skip


@BLUEPRINT.get("/services")
def show_services() -> str:
    """Return the page. The parameter ``slot`` chooses the log of a slot, of a service, or of ``runner``."""
    dashboard = current_dashboard()
    frame = dashboard.collector.next_frame(1.5)
    rows = rows_of(
        frame, dashboard.collector.files.project, dashboard.collector.rates, dashboard.service,
        request.args.get("find", ""),
    )  # fmt: skip
    target = request.args.get("slot", "")
    states = [one["state"] for one in frame["slots"].values()]
    return render_template(
        "services.html",
        frame=frame,
        rows=rows,
        target=target,
        chosen=next((row for service in rows for row in service.slots if row.key == target), None),
        log_command=["logs", *([target] if target else []), "-f"],
        running=states.count("RUNNING"),
        total=len(states),
        chart=CHART,
        runner=RUNNER,
        missing=MISSING,
    )


@BLUEPRINT.get("/services/log")
def show_log() -> Response:
    """Return the latest lines of a log as JSON. The browser asks again once a second, with the ETag of its lines."""
    dashboard = current_dashboard()
    found = dashboard.logs.of(request.args.get("slot", ""))
    if dashboard.settings.mask_personal_data:
        found = masked(found)
    answer = Response(json.dumps(found, ensure_ascii=False), mimetype="application/json")
    answer.add_etag()
    answer.headers["Cache-Control"] = "no-cache"
    answer.make_conditional(request)
    return answer
