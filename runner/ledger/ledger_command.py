"""``ledger``: whether every message that was published is handled, parked, discarded, or still waiting."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from runner.admin.management import Management
from runner.config.project import Project
from runner.deadletters.open_queues import opened as opened_desk
from runner.errors import EXIT_FAILURE, RunnerError
from runner.escape import json_text
from runner.history.access import OFF, opened_stores
from runner.history.events_command import time_ago
from runner.history.records import Read
from runner.ledger.account import Account, AccountedQueue
from runner.ledger.account_building import Known, accounts
from runner.ledger.expected_queues import ExpectedQueues
from runner.ledger.live_topology import MessagePlaces, live_of, owned_by, standing, unapplied
from runner.ledger.loss_detection import LossDetection
from runner.ledger.recorded_fates import (
    Names,
    Published,
    audited_events,
    fates,
    first_notes,
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

#: Seconds for which processes may run on without a trace after the first one has it, as they are replaced one by one.
ROLLOUT = 60.0
#: Where services have an inbox that has no row yet.
EMPTY = "nothing can be proved yet: no inbox has a row; the first message that is handled writes one"
#: What a queue may refuse events for.
LIMITS = {"max-length", "max-length-bytes"}


@click.command(short_help="Prove that no message is lost.")
@click.option("--since", metavar="TIME", callback=time_ago, help="Only of the last 30s, 10m, 1h, 2d.")
@click.option("--json", "as_json", is_flag=True, help="Print the accounts, with all ids, as one JSON object.")
@click.pass_obj
def ledger(folder: Path, since: int | None, as_json: bool) -> None:
    """Prove for each queue that what was published to it is handled, parked, discarded, or still waiting.

    What was published and handled is read from the database that the services write to, what is parked and what waits
    from the broker. Nothing is consumed or changed. Where something is missing it looks again, for at most 16 s.

    Exits with 1 where a message is lost, or was handled twice in spite of an inbox, and where nothing can be proved;
    with 74 while the database is away, and 75 while a broker elsewhere is.
    """
    with opened_stores(folder) as (read, recorded), opened_desk(folder, None) as desk:
        project = recorded.project
        objects = compile_topology(project.topology, project.consumed)
        known = _known(read, _renamed(project, desk.management))
        places = _places(project, objects, read, known)
        live = live_of(desk.management)
        found = accounts(places, known, _arrivals(objects, live), since)
        if not recorded.has_events and not any(one.is_known for one in found):
            raise RunnerError(EMPTY if any(one.inboxes for one in places) else OFF)
        observation = LossDetection(MessagePlaces.of(desk, objects, live, project.attempts_queue), read, known, found)
        unsettled = observation.settle(_say_missing)
        is_settled = _note(observation, unsettled, project)
    unread, differing = unread_queues(project, objects), [*unapplied(objects, live)]
    if as_json:
        click.echo(json_text(as_json_object(found, unread, differing, is_settled=is_settled), indent=2))
    else:
        for line in statement(found, unread, differing, is_settled=is_settled):
            click.echo(line)
    if any(one.lost or one.wrong for one in found):
        sys.exit(EXIT_FAILURE)


def _renamed(project: Project, management: Management) -> Names:
    """Return the present names of renamed queues: those by ``formerly``, and those that the broker remembers."""
    queues = project.topology.queues
    found = {old: new for old, new in owned_by(management).renamed.items() if old not in queues and new in queues}
    return found | project.topology.renamed


def _known(read: Read, renamed: Names) -> Known:
    # Hundreds of thousands of small things that all stay: to look among them for what is not needed takes seconds.
    gc.disable()
    events: dict[str, Published] = {one.id: one for one in audited_events(read)}
    audited = frozenset(events)
    for one in outbox_events(read):
        events.setdefault(one.id, one)
    for one in inbox_events(read, renamed):
        seen = events.get(one.id)
        events[one.id] = one if seen is None else seen._replace(maker=one.maker)
    return Known(events, audited, fates(read, renamed), inboxes(read, renamed), {}, unsent(read), renamed)


def _arrivals(objects: Objects, live: Live) -> ExpectedQueues:
    times = live.owned.since
    # When the broker began to remember is only known where no binding is older than that.
    begun = min(times.values(), default=None) if live.owned.bindings <= times.keys() else None
    return ExpectedQueues(standing(objects, live), times, begun)


def _places(project: Project, objects: Objects, read: Read, known: Known) -> list[AccountedQueue]:
    begun = {} if project.attempts_queue is None else first_notes(read)
    names = dict.fromkeys(queue for one in project.config.services.values() for queue in one.consumes)
    settings = Policies(objects.policies)
    limits = {one.name: LIMITS & settings.settings_of(one).keys() for one in objects.queues if one.name in names}
    result = []
    for queue in names:
        readers = {name: one for name, one in project.config.services.items() if queue in one.consumes}
        is_audit = any(name in readers for name in project.recorders(EVENTS))
        times = [0] if is_audit else []
        if begun and not is_audit:
            first = min(begun.values())
            own = max(begun.get(name, first) for name in readers)
            times.append(own if own <= first + ROLLOUT * 1000 else first)
        kept = [known.inboxes.get((name, queue)) for name in readers]
        keeps = [one.inbox.keep for one in readers.values() if one.inbox is not None]
        if len(keeps) == len(readers) and all(one is not None for one in kept):
            # What is older may be forgotten.
            forgotten = int((time.time() - min(keeps)) * 1000)
            times.append(max(forgotten, *(one.since for one in kept if one is not None)))
        ladder = objects.ladders.get(queue)
        inboxed = tuple(name for name, one in readers.items() if one.inbox is not None)
        result.append(
            AccountedQueue(
                queue,
                tuple(readers),
                None if ladder is None else ladder.dead_letter,
                is_audit,
                min(times, default=None),
                inboxed,
                bool(limits.get(queue)),
            )
        )
    return result


def _say_missing(count: int) -> None:
    if sys.stderr.isatty():
        what = f"{count} missing so far" if count else "not all is written down so far"
        click.secho(f"\r{what}, looking again …\x1b[K", err=True, nl=False, dim=True)


def _note(observation: LossDetection, unsettled: Sequence[Account], project: Project) -> bool:
    """Say of each account what its figures do not; returns whether all is sure."""
    is_settled = not unsettled
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    for one in observation.accounts:
        missing = len(one.missing)
        if not one.is_known:
            without = [name for name in one.place.services if name not in one.place.inboxes]
            is_open = without and project.attempts_queue is None
            remedy = f"audit of attempts, or inbox: true for {', '.join(without)}, makes it known" if is_open else ""
            none_yet = "no try and no inbox row was written down yet"
            one.notes.insert(0, f"what was handled is not known: {remedy or none_yet}")
        elif one in unsettled:
            why = "messages come and go"
            if observation.is_blind(one):
                why = "RabbitMQ's HTTP API does not tell how many messages are in somebody's hands"
            one.notes.append(f"{missing} are not found for now, while {why}: look again later")
        if one.candidates:
            one.notes.append(
                f"{len(one.lost)} of {missing} that are missing are lost; which, is not known, as what waits cannot be"
                " told by its id"
            )
        if one.lost and one.place.is_limited:
            one.notes.append(
                "it refuses what is more than its max-length: an order that was answered 503 for that, while audit got"
                " its event, looks lost here"
            )
        if one not in unsettled and (doubts := observation.doubts(one)):
            one.notes += doubts
            is_settled = False
    return is_settled
