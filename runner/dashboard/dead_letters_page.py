"""The page Dead letters: groups of dead letters by cause, their messages, and the actions on them."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime
from urllib.parse import quote

from flask import Blueprint, Response, render_template, request

from runner.dashboard.dead_letter_actions import is_plain
from runner.dashboard.dead_letter_detail import dead_letter_facts, dead_letter_views, why_not_edited
from runner.dashboard.dead_letter_query import STEP, DeadLetterQuery, scope_of
from runner.dashboard.page_action import command_line
from runner.dashboard.web_server import Dashboard, current_dashboard
from runner.deadletters.message_text import body_lines, one_line
from runner.deadletters.replay_rules import MOST_REPLAYS
from runner.deadletters.selection import Selection
from runner.deadletters.snapshot import SnapshotDeadLetter
from runner.errors import RunnerError
from runner.http import Problem
from runner.invocation import invocation
from runner.learn.exercise import Exercise

BLUEPRINT = Blueprint("dead_letters", __name__)


@BLUEPRINT.get("/dead-letters")
def show_dead_letters() -> str:
    """Return the page."""
    dashboard, query = current_dashboard(), DeadLetterQuery.of_request()
    cached = dashboard.dead_letters.get()
    snapshot = cached.snapshot
    grouped = snapshot.grouped(query.selection, query.queue or None)
    groups = grouped.groups()
    opened = next((one for one in groups if one.cause.fingerprint == query.group), None)
    letters: list[SnapshotDeadLetter] = []
    if opened is not None:
        chosen = Selection(match=query.text or None, fingerprint=query.group)
        letters = list(snapshot.selected(chosen, query.queue or None))
        letters.sort(key=lambda one: one.message.dead_lettered_at or 0.0, reverse=True)
    message = next((one for one in letters if one.message.id == query.message), letters[0] if letters else None)
    ids = [one.message.id for one in letters]
    prefixes = {id: one_line(prefix) for id, prefix in zip(ids, grouped.prefixes(ids), strict=True)}
    facts = dead_letter_facts(message)
    repeated = Counter(one.message.id for one in snapshot.dead_letters)
    return render_template(
        "dead_letters.html",
        query=query, cached=cached, snapshot=snapshot, groups=groups, opened=opened, letters=letters,
        message=message, prefixes=prefixes, is_busy=dashboard.moves_dead_letters(), count=grouped.count,
        shown_letters=letters[: query.shown], step=STEP, facts=facts,
        views=dead_letter_views(message, query.view, facts),
        scope_of=scope_of, scope=scope_of(query), command_of=command_of, when=when, span=span,
        most_replays=MOST_REPLAYS, queues=_with_chosen(snapshot.origins, query.queue), order_url=order_url,
        one_line=one_line,
        id_fields=lambda one: _id_fields(one, repeated[one.message.id] > 1), poison=_poison_target(dashboard),
        exercise=_exercise(dashboard),
    )  # fmt: skip


@BLUEPRINT.get("/dead-letters/body")
def show_body() -> Response:
    """Return the body of one dead letter as text, to be edited."""
    dashboard = current_dashboard()
    snapshot = dashboard.dead_letters.get().snapshot
    selection = Selection(ids=frozenset({request.args.get("id", "")}))
    found = next(snapshot.selected(selection, request.args.get("queue") or None), None)
    if found is None:
        raise Problem(404, "this message is no longer dead-lettered")
    why = why_not_edited(found.message, is_masked=dashboard.settings.mask_personal_data)
    if why is not None:
        raise Problem(422, why)
    return Response("\n".join(body_lines(found.message.body)), mimetype="text/plain")


@BLUEPRINT.get("/dead-letters/again")
def count_again() -> dict[str, int]:
    """Return the number of messages that were replayed at ``since`` or later and were dead-lettered again."""
    since = request.args.get("since", 0, type=int)
    snapshot = current_dashboard().dead_letters.get().snapshot
    return {"count": sum(one.message.replayed_at >= since > 0 for one in snapshot.dead_letters)}


def command_of(verb: str, fields: dict[str, str]) -> str:
    """Return the command line that an action with these fields runs."""
    return invocation(*command_line(verb, fields))


def order_url(order: str) -> str:
    """Return the URL of the page about an order."""
    return f"/orders/{quote(order, safe='')}"


def _with_chosen(queues: list[str], chosen: str) -> list[str]:
    return queues if chosen in ("", *queues) else [*queues, chosen]


def _id_fields(one: SnapshotDeadLetter, is_ambiguous: bool) -> dict[str, str]:
    """Return the fields that select one message, or no fields if its id cannot be part of a command line.

    The same message may have failed in several queues.
    """
    if not is_plain(one.message.id):
        return {}
    return {"ids": one.message.id, **({"queue": one.message.queue} if is_ambiguous else {})}


def when(seconds: float | None) -> str:
    """Return the time of day of a time today, such as ``13:58:12``, and the date of an earlier time."""
    if seconds is None:
        return "\N{EN DASH}"
    at, today = datetime.fromtimestamp(seconds), date.today()
    if at.date() == today:
        return at.strftime("%H:%M:%S")
    return at.strftime("%b %-d, %H:%M" if at.year == today.year else "%b %-d, %Y")


def span(numbers: tuple[int, int] | None) -> str:
    """Return the smallest and the largest number, such as ``4-8`` with an en dash, or one number."""
    if numbers is None:
        return "\N{EN DASH}"
    least, most = numbers
    return str(least) if least == most else f"{least}\N{EN DASH}{most}"


def _exercise(dashboard: Dashboard) -> Exercise | None:
    """Return the exercise about poison messages, or None if the course has no such exercise."""
    try:
        exercises = dashboard.lessons.exercises
    except RunnerError:
        return None
    return next((one for one in exercises if one.name.endswith("-poison-message")), None)


def _poison_target(dashboard: Dashboard) -> str | None:
    """Return a queue for an example of a poison message, or None if fault injection is off."""
    project = dashboard.collector.files.project
    if project is None or not project.config.fault_injection:
        return None
    return next((queue for one in project.config.services.values() for queue in one.consumes), None)
