"""The ``ledger`` command, which accounts for every published message."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from runner.admin.management import Management
from runner.config.project import Project
from runner.deadletters.open_queues import opened as opened_queues
from runner.errors import EXIT_FAILURE, RunnerError
from runner.escape import json_text
from runner.history.access import OFF, opened_stores
from runner.history.events_command import time_ago
from runner.history.records import Read
from runner.ledger.account import Account, AccountedQueue
from runner.ledger.account_building import Known, accounts
from runner.ledger.expected_queues import ExpectedQueues
from runner.ledger.live_topology import MessagePlaces, live_of, owned_by, unapplied, with_live_bindings
from runner.ledger.loss_detection import LossDetection
from runner.ledger.recorded_fates import (
    Names,
    Published,
    audited_events,
    fates,
    first_attempts,
    inbox_events,
    inboxes,
    outbox_events,
    unsent,
)
from runner.ledger.statement import as_json_object, statement, unread_queues
from runner.messages import EVENTS
from runner.topology.compile import compile_topology
from runner.topology.effective_settings import Policies
from runner.topology.live import Live
from runner.topology.model import Objects
from runner.topology.plan import counted

#: Seconds that the replacement of all processes may take after the first process has recorded an attempt.
ROLLOUT = 60.0
#: The error for a database that contains only inboxes, if all inboxes are empty.
EMPTY = "no proof is possible yet, because all inboxes are empty; the first handled message adds a row"
#: The settings that can cause a queue to reject messages.
LIMITS = {"max-length", "max-length-bytes"}


@click.command(short_help="Prove that no message has been lost.")
@click.option(
    "--since",
    metavar="TIME",
    callback=time_ago,
    help="Check only messages from the last TIME, such as 30s, 10m, 1h or 2d.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all accounts and ids.")
@click.pass_obj
def ledger(folder: Path, since: int | None, as_json: bool) -> None:
    """Prove for each queue that every published message was handled, dead-lettered or discarded, or is still waiting.

    The command reads published and handled messages from the services' databases, and dead letters and waiting messages
    from the broker. It changes no data and removes no messages. If messages are missing, the command repeats the search
    for up to 16 s.

    Exits with 1 if a message is lost, if a message was handled twice despite an inbox, or if no proof is possible.
    Exits with 74 if the database is unreachable, and with 75 if a broker on another machine is unreachable.
    """
    with opened_stores(folder) as (read, recorded), opened_queues(folder, None) as queues:
        project = recorded.project
        objects = compile_topology(project.topology, project.consumed)
        known = _known(read, _renamed(project, queues.management))
        places = _places(project, objects, read, known)
        live = live_of(queues.management)
        found = accounts(places, known, _expected(objects, live), since)
        if not recorded.has_events and not any(one.is_known for one in found):
            raise RunnerError(EMPTY if any(one.inboxes for one in places) else OFF)
        message_places = MessagePlaces.of(queues, objects, live, project.attempts_queue)
        detection = LossDetection(message_places, read, known, found)
        unsettled = detection.settle(_show_missing)
        is_settled = _add_notes(detection, unsettled, project)
    unread, differing = unread_queues(project, objects), [*unapplied(objects, live)]
    if as_json:
        click.echo(json_text(as_json_object(found, unread, differing, is_settled=is_settled), indent=2))
    else:
        for line in statement(found, unread, differing, is_settled=is_settled):
            click.echo(line)
    if any(one.lost or one.wrong for one in found):
        sys.exit(EXIT_FAILURE)


def _renamed(project: Project, management: Management) -> Names:
    """Return the current names of renamed queues, from ``formerly`` in topology.yaml and from the broker's records."""
    queues = project.topology.queues
    found = {old: new for old, new in owned_by(management).renamed.items() if old not in queues and new in queues}
    return found | project.topology.renamed


def _known(read: Read, renamed: Names) -> Known:
    # The garbage collector would take seconds to examine hundreds of thousands of objects, none of which is garbage.
    gc.disable()
    events: dict[str, Published] = {one.id: one for one in audited_events(read)}
    audited = frozenset(events)
    for one in outbox_events(read):
        events.setdefault(one.id, one)
    for one in inbox_events(read, renamed):
        seen = events.get(one.id)
        events[one.id] = one if seen is None else seen._replace(maker=one.maker)
    return Known(events, audited, fates(read, renamed), inboxes(read, renamed), {}, unsent(read), renamed)


def _expected(objects: Objects, live: Live) -> ExpectedQueues:
    times = live.owned.since
    # A binding without a time is older than the first record, so the oldest record does not show the age of the data.
    begun = min(times.values(), default=None) if live.owned.bindings <= times.keys() else None
    return ExpectedQueues(with_live_bindings(objects, live), times, begun)


def _places(project: Project, objects: Objects, read: Read, known: Known) -> list[AccountedQueue]:
    begun = {} if project.attempts_queue is None else first_attempts(read)
    names = dict.fromkeys(queue for one in project.config.services.values() for queue in one.consumes)
    settings = Policies(objects.policies)
    limits = {one.name: LIMITS & settings.settings_of(one).keys() for one in objects.queues if one.name in names}
    result = []
    for queue in names:
        consumers = {name: one for name, one in project.config.services.items() if queue in one.consumes}
        is_audit = any(name in consumers for name in project.recorders(EVENTS))
        times = [0] if is_audit else []
        if begun and not is_audit:
            first = min(begun.values())
            own = max(begun.get(name, first) for name in consumers)
            times.append(own if own <= first + ROLLOUT * 1000 else first)
        inboxes = [known.inboxes.get((name, queue)) for name in consumers]
        keeps = [one.inbox.retention for one in consumers.values() if one.inbox is not None]
        if len(keeps) == len(consumers) and all(one is not None for one in inboxes):
            # Older rows may have been deleted.
            deleted = int((time.time() - min(keeps)) * 1000)
            times.append(max(deleted, *(one.since for one in inboxes if one is not None)))
        retry = objects.retry_delays.get(queue)
        inboxed = tuple(name for name, one in consumers.items() if one.inbox is not None)
        result.append(
            AccountedQueue(
                queue,
                tuple(consumers),
                None if retry is None else retry.dead_letter,
                is_audit,
                min(times, default=None),
                inboxed,
                bool(limits.get(queue)),
            )
        )
    return result


def _show_missing(count: int) -> None:
    if sys.stderr.isatty():
        what = f"{count} not accounted for yet" if count else "some messages are not recorded yet"
        # The terminal output filter accepts these control characters only at the start of a text.
        click.echo("\r\x1b[K" + click.style(f"{what}, checking again …", dim=True), err=True, nl=False)


def _add_notes(detection: LossDetection, unsettled: Sequence[Account], project: Project) -> bool:
    """Add the remarks about the figures to each account. Return True if all figures are certain."""
    is_settled = not unsettled
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    for one in detection.accounts:
        missing = len(one.missing)
        if not one.is_known:
            without = [name for name in one.place.services if name not in one.place.inboxes]
            is_open = without and project.attempts_queue is None
            remedy = f"let audit record attempts, or set 'inbox: true' for {', '.join(without)}" if is_open else ""
            none_yet = "no attempts and no inbox rows are recorded yet"
            one.notes.insert(0, f"handled messages are unknown: {remedy or none_yet}")
        elif one in unsettled:
            why = "messages are moving"
            if detection.is_blind(one):
                why = "RabbitMQ's HTTP API does not report the number of unacked messages"
            one.notes.append(f"{counted(missing, 'message')} not found yet, because {why}; run ledger again later")
        if one.candidates:
            one.notes.append(
                f"{len(one.lost)} of {missing} missing messages are lost, but their ids are unknown while other"
                " messages are waiting"
            )
        if one.lost and one.place.is_limited:
            one.notes.append(
                "the queue rejects messages beyond its max-length, so an order that was answered with 503"
                " for this reason looks lost if audit received its event"
            )
        if one not in unsettled and (doubts := detection.doubts(one)):
            one.notes += doubts
            is_settled = False
    return is_settled
