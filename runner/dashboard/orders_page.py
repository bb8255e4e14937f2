"""The pages about orders: the list, one order as a swimlane, and the moves for slow motion."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, redirect, render_template, request
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue

from runner.dashboard.order_reader import OrderReader
from runner.dashboard.order_view import (
    list_line,
    list_rows,
    list_url,
    order_url,
    order_view,
    started_text,
)
from runner.dashboard.page_text import masked
from runner.dashboard.web_server import current_dashboard
from runner.errors import RunnerError
from runner.escape import escaped, json_text, storable
from runner.history.access import OFF, HistoryOff, NothingRecorded
from runner.history.event_routes import EventRoutes
from runner.history.order_history import OrderHistory, read_history
from runner.history.order_list import OrderFilter, OrderPage, Position, known_statuses, list_orders
from runner.history.records import orders_like
from runner.history.slow_motion import motion_json, motion_of
from runner.history.swimlane_builder import Copies, swimlane_of
from runner.http import Problem

BLUEPRINT = Blueprint("orders", __name__)
#: The number of orders on a page of the list, which is rendered again once a second while orders arrive.
LIMIT = 25
#: The maximum number of events that a list may read again for each new order.
MOST_LIVE = 2000


@BLUEPRINT.record_once
def _prepare(state: BlueprintSetupState) -> None:
    extensions = state.app.extensions
    extensions["orders"] = OrderReader(extensions["dashboard"].collector)


@BLUEPRINT.get("/orders")
def show_orders() -> ResponseReturnValue:
    """Return the list of orders. A complete order id in the search field leads to the page of the order."""
    text, status, place = (request.args.get(name, "").strip() for name in ("q", "status", "before"))
    try:
        before = Position.parsed(place) if place else None
    except ValueError as error:
        raise Problem(400, f"before: {error}") from None
    is_address = "@" in text
    found, statuses = OrderPage(), list[str]()
    try:
        with _reader().opened() as read:
            if _is_id(text) and not is_address and orders_like(read, text) == [text]:
                return redirect(order_url(text), 303)
            statuses = known_statuses(read)
            if (not status or status in statuses) and storable(text) == text:
                wanted = OrderFilter(status or None, text if is_address else None, None if is_address else text or None)
                found = list_orders(read, wanted, before=before, limit=LIMIT)
        if not found.orders and found.older is None and not _reader().has_events:
            raise HistoryOff(OFF)
    except NothingRecorded:
        pass  # the page contains a form for the first order
    except RunnerError as error:
        return _without_history(error)
    # Order ids of other clients can be any text, so the found orders decide.
    is_address = is_address or (bool(found.orders) and not any(one.order_id.startswith(text) for one in found.orders))
    return render_template(
        "orders.html",
        found=found,
        rows=list_rows(found.orders, _shown),
        statuses=statuses,
        status=status,
        text=text,
        is_first=before is None,
        line=_shown(list_line(text, status, is_address=is_address)),
        older=list_url(text, status, found.older),
        searched_back="" if found.older is None else started_text(found.older.published_at),
        list_url=list_url,
        # A long search is repeated only when the dead letters change, and not for each new order.
        is_live=found.searched <= MOST_LIVE,
    )


@BLUEPRINT.get("/orders/<path:order_id>")
def show_order(order_id: str) -> ResponseReturnValue:
    """Return the page of one order. A unique prefix of an id leads to the page of the order."""
    try:
        with _reader().opened() as read:
            history = read_history(read, order_id) if _is_id(order_id) else None
            if history is None:
                alike = orders_like(read, order_id) if _is_id(order_id) else []
                if len(alike) == 1:
                    return redirect(order_url(alike[0]), 303)
                return render_template("unknown_order.html", order_id=order_id, alike=alike, order_url=order_url), 404
        recording = _reader().recording()
        has_attempts = recording is None or recording.has_attempts
        copies = _copies(history, recording.routes) if recording and has_attempts else {}
    except NothingRecorded:
        return render_template("unknown_order.html", order_id=order_id, alike=[], order_url=order_url), 404
    except RunnerError as error:
        return _without_history(error)
    chosen = request.args.get("step", "")
    view = order_view(
        history,
        swimlane_of(history, copies),
        _shown,
        step=int(chosen) if chosen.isdecimal() and len(chosen) < 9 else None,
        tab=request.args.get("tab", ""),
        is_folded=request.args.get("scale") != "true",
    )
    return render_template("order.html", **view, has_attempts=has_attempts)


@BLUEPRINT.get("/orders/<path:order_id>/motion")
def show_motion(order_id: str) -> Response:
    """Return the recorded moves of an order for the picture. Raises Problem (404 or 503)."""
    try:
        with _reader().opened() as read:
            history = read_history(read, order_id) if _is_id(order_id) else None
        recording = _reader().recording(patience=None)
        steps = [] if history is None or recording is None else motion_of(history, recording.routes)
    except RunnerError as error:
        raise Problem(503, str(error)) from None
    if history is None:
        raise Problem(404, f"unknown order, {order_id!r}")
    return Response(json_text(_shown(motion_json(history, steps))), mimetype="application/json")


def _copies(history: OrderHistory, routes: EventRoutes) -> Copies:
    """Return the queues of each event, without the queues that are empty now.

    An order of the past may be older than a queue, so that a copy without an attempt does not always wait.
    """
    queues = current_dashboard().collector.current()["queues"]
    empty = {name for name, one in queues.items() if one.get("ready") == 0 and not one.get("unacked")}
    return {one.id: [copy for copy in routes.copies(one) if copy[1] not in empty] for one in history.events}


def _reader() -> OrderReader:
    reader: OrderReader = current_app.extensions["orders"]
    return reader


def _shown(value: Any) -> Any:
    """Return a text without harmful characters, and without personal data if it is masked."""
    text = escaped(value) if isinstance(value, str) else value
    return masked(text) if current_dashboard().settings.mask_personal_data else text


def _is_id(text: str) -> bool:
    # Some databases reject other characters, and no stored id contains them.
    return bool(text) and storable(text) == text


def _without_history(error: RunnerError) -> ResponseReturnValue:
    """Return a page with the reason why there is no list: audit is off, or the files or the database have a problem."""
    if isinstance(error, HistoryOff):
        return render_template("orders_off.html", snippets=_snippets())
    return render_template("orders_problem.html", problem=str(error)), 503


def _snippets() -> list[tuple[str, str]]:
    """Return the comment and the lines of each file in the advice ``OFF``."""
    found = list[tuple[str, str]]()
    for line in OFF.splitlines()[1:]:
        if line.startswith("# "):
            found.append((line[2:], ""))
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found
