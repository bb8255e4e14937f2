"""``fault duplicate`` and ``fault poison``: messages that come twice, and some that can never be handled."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from pathlib import Path

import click

from runner.admin.batch import publish_all
from runner.admin.queue_counts import look
from runner.amqp.properties import Encoded, encode
from runner.config.value import format_duration
from runner.errors import RunnerError
from runner.faults.active import ActiveFault
from runner.faults.fault_project import PERIOD, FaultProject, as_json
from runner.faults.message_injection import Duplicate
from runner.faults.middleware import KILL
from runner.faults.scenario import DEADLY, DUPLICATE, POISON, report
from runner.headers import FAULT
from runner.messages import Event
from runner.proc import Identity
from runner.topology.plan import counted

#: The most messages of one command.
MOST = 1000
POISON_BODY = b"this is no JSON: a message that was made to fail"

_count = click.IntRange(1, MOST)


@click.command(short_help="Let messages of a queue come twice.")
@click.argument("queue")
@click.option("--count", type=_count, default=10, show_default=True, help="After so many it is over.")
@click.option("--for", "seconds", type=PERIOD, default="10s", show_default=True, help="After this time it is over.")
@as_json
@click.pass_obj
def duplicate(folder: Path, queue: str, count: int, seconds: float, is_json: bool) -> None:
    """Put the next messages that are routed to QUEUE into it a second time, with the same id, headers and properties.

    It says on standard error when it begins; post orders then. Ends after --count messages, or after --for.
    """
    lab = FaultProject.of(folder)
    name, service = lab.reader(queue)
    bindings = [one for one in lab.objects.bindings if (one.destination_type, one.destination) == ("queue", queue)]
    if not bindings:
        raise click.BadParameter(f"nothing is routed to {queue!r}, since topology.yaml binds it to no exchange")
    # SIGTERM cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    key = f"duplicate.{os.getpid()}"
    file = lab.faults.file(key)
    process = Identity.of(os.getpid())

    def begin() -> None:
        lab.faults.write(key, ActiveFault("duplicate", queue, time.time(), seconds, process=process))
        what = f"the next {counted(count, 'message')} routed to {queue}"
        click.echo(f"duplicating {what}, for {format_duration(seconds)} at most", err=True)

    url = _broker_with(lab, queue)
    try:
        ids = Duplicate(url, queue, bindings, count, begin, file.exists).run(seconds)
    finally:
        with contextlib.suppress(OSError):  # left behind, it counts for nothing once this process has ended
            file.unlink()
    facts = {**lab.facts(name, service), "queue": queue, "count": counted(len(ids), "message")}
    report(DUPLICATE, queue, {"ids": ids}, facts, is_json=is_json)
    if not is_json:
        _show(ids)


@click.command(short_help="Put a message into a queue that can never be handled.")
@click.argument("queue")
@click.option("--count", type=_count, default=1, show_default=True, help="How many.")
@click.option("--kill", "is_deadly", is_flag=True, help="One that ends each process that begins with it.")
@as_json
@click.pass_obj
def poison(folder: Path, queue: str, count: int, is_deadly: bool, is_json: bool) -> None:
    """Put a message into QUEUE, and into no other one, that can never be handled: its body is no JSON."""
    lab = FaultProject.of(folder)
    name, service = lab.reader(queue)
    url = _broker_with(lab, queue)
    messages = [_poison(queue, is_deadly=is_deadly) for _ in range(count)]
    publish_all(url, "runner fault", messages)
    ids = [one.event.id or "" for one in messages]
    ladder = lab.objects.ladders[queue]
    facts = lab.facts(name, service) | {
        "queue": queue, "count": counted(len(ids), "message"), "first": ids[0], "dead_letter": ladder.dead_letter,
        "many": count >= service.restart_limit.count,
    }  # fmt: skip
    found = {"ids": ids, "kill": is_deadly, "dead_letter": ladder.dead_letter}
    report(DEADLY if is_deadly else POISON, queue, found, facts, is_json=is_json)
    if not is_json:
        _show(ids)


def _poison(queue: str, *, is_deadly: bool) -> Encoded:
    headers = {FAULT: KILL} if is_deadly else {}
    identity = str(uuid.uuid4())
    return encode(
        Event("fault.poison", POISON_BODY, exchange="", routing_key=queue, headers=headers, id=identity, app_id="fault")
    )


def _broker_with(lab: FaultProject, queue: str) -> str:
    """The broker that answers and has the queue. Raises BrokerAway, and RunnerError where it has no such queue."""
    url, found = look(lab.project.config.broker.url, [queue])
    if found[queue] is None:
        raise RunnerError(f"queue {queue!r}: not on the broker yet; a start of the runner makes it")
    return url


def _show(ids: list[str]) -> None:
    if ids:
        click.echo("ids:")
    for one in ids:
        click.echo(f"  {one or '(without an id)'}")
