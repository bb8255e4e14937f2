"""The ``fault duplicate`` and ``fault poison`` commands."""

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
from runner.faults.scenario import CRASHING, DUPLICATE, POISON, report
from runner.headers import FAULT
from runner.invocation import invocation
from runner.messages import Event
from runner.proc import Identity
from runner.topology.plan import counted

#: The maximum number of messages for one command.
MOST = 1000
POISON_BODY = b"this is not JSON: a message that was made to fail"

_count = click.IntRange(1, MOST)


@click.command(short_help="Duplicate the next messages that are routed to a queue.")
@click.argument("queue")
@click.option(
    "--count", type=_count, default=10, show_default=True, help="The maximum number of messages to duplicate."
)
@click.option("--for", "seconds", type=PERIOD, default="10s", show_default=True, help="Maximum duration.")
@as_json
@click.pass_obj
def duplicate(folder: Path, queue: str, count: int, seconds: float, is_json: bool) -> None:
    """Publish a second copy of each message that is routed to QUEUE, with the same id, headers and properties.

    Before you post orders, wait until the command has printed a line to standard error. The command exits after --count
    messages, or when the --for duration ends.
    """
    fault_project = FaultProject.of(folder)
    name, service = fault_project.consumer_of(queue)
    bindings = [
        one for one in fault_project.objects.bindings if (one.destination_type, one.destination) == ("queue", queue)
    ]
    if not bindings:
        text = f"no messages are routed to {queue!r}, because no binding leads to this queue; allowed: a bound queue"
        raise click.BadParameter(text)
    # The cleanup below must run even after SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    key = f"duplicate.{os.getpid()}"
    file = fault_project.faults.file(key)
    process = Identity.of(os.getpid())

    def begin() -> None:
        fault_project.faults.write(key, ActiveFault("duplicate", queue, time.time(), seconds, process=process))
        what = f"the next {counted(count, 'message')} routed to {queue}"
        click.echo(f"duplicating {what}, for {format_duration(seconds)} at most", err=True)

    url = _broker_with(fault_project, queue)
    try:
        ids = Duplicate(url, queue, bindings, count, begin, file.exists).run(seconds)
    finally:
        with contextlib.suppress(OSError):  # the fault ends with this process even if the file remains
            file.unlink()
    facts = {**fault_project.facts(name, service), "queue": queue, "count": counted(len(ids), "message")}
    report(folder, DUPLICATE, queue, {"ids": ids}, facts, is_json=is_json)
    if not is_json:
        _show(ids)


@click.command(short_help="Publish a poison message to a queue.")
@click.argument("queue")
@click.option("--count", type=_count, default=1, show_default=True, help="The number of messages to publish.")
@click.option("--kill", "is_crashing", is_flag=True, help="Make the message crash every worker that handles it.")
@as_json
@click.pass_obj
def poison(folder: Path, queue: str, count: int, is_crashing: bool, is_json: bool) -> None:
    """Publish a poison message to QUEUE only. The message can never be handled, because its body is not JSON."""
    fault_project = FaultProject.of(folder)
    name, service = fault_project.consumer_of(queue)
    url = _broker_with(fault_project, queue)
    messages = [_poison(queue, is_crashing=is_crashing) for _ in range(count)]
    publish_all(url, "runner fault", messages)
    ids = [one.event.id or "" for one in messages]
    dead_letter = fault_project.objects.retry_delays[queue].dead_letter
    facts = fault_project.facts(name, service) | {
        "queue": queue, "count": counted(len(ids), "message"), "first": ids[0], "dead_letter": dead_letter,
        "many": count >= service.restart_limit.count,
    }  # fmt: skip
    found = {"ids": ids, "kill": is_crashing, "dead_letter": dead_letter}
    report(folder, CRASHING if is_crashing else POISON, queue, found, facts, is_json=is_json)
    if not is_json:
        _show(ids)


def _poison(queue: str, *, is_crashing: bool) -> Encoded:
    headers = {FAULT: KILL} if is_crashing else {}
    identity = str(uuid.uuid4())
    return encode(
        Event("fault.poison", POISON_BODY, exchange="", routing_key=queue, headers=headers, id=identity, app_id="fault")
    )


def _broker_with(fault_project: FaultProject, queue: str) -> str:
    """Return the broker's URL. Raises BrokerUnreachable, or RunnerError if the queue does not exist."""
    url, found = look(fault_project.project.config.broker.url, [queue])
    if found[queue] is None:
        raise RunnerError(f"queue {queue!r}: not on the broker yet; to create the queue: {invocation('apply')}")
    return url


def _show(ids: list[str]) -> None:
    if ids:
        click.echo("ids:")
    for one in ids:
        click.echo(f"  {one or '(without an id)'}")
