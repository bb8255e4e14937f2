"""The ``peek`` command, which shows the first messages of a queue and leaves them in the queue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from runner.cli.terminal import warn
from runner.config.version import STREAM
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.json_record import content_of
from runner.deadletters.message_text import described, moment, one_line, rare_properties
from runner.errors import RunnerError
from runner.escape import json_text
from runner.headers import ATTEMPT, CAUSATION, DELIVERY_COUNT, LAST_ERROR, seconds_of
from runner.queues.peek import Peek
from runner.queues.target import OpenProject, Target, check_delivers, open_project, readers
from runner.topology.plan import counted

#: The maximum number of messages to show. Consumers cannot receive these messages while the command is reading them.
MOST = 1000


@click.command(short_help="Show the first messages of a queue without removing them.")
@click.argument("queue")
@click.option(
    "-n",
    "number",
    type=click.IntRange(1, MOST),
    default=1,
    show_default=True,
    metavar="N",
    help="The number of messages to show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def peek(folder: Path, queue: str, number: int, as_json: bool) -> None:
    """Show the first N ready messages of a queue. The messages remain in the queue, in order.

    Before RabbitMQ 4.3, a quorum queue counts each read as a failed delivery. The queue dead-letters or drops a message
    that exceeds the delivery limit. The command therefore does not requeue a message that has reached the delivery
    limit. Instead, it copies the message to the end of the queue, and removes the original after the broker has
    confirmed the copy.
    """
    with open_project(folder) as site:
        target = site.find(queue, "QUEUE")
        if target.kind == STREAM:
            raise RunnerError(f"queue {queue!r}: peek does not support streams; allowed: a classic or quorum queue")
        check_delivers(target, site.project)
        limit = site.delivery_limit(target)
        is_single = target.is_single
        one = Peek(site.url, queue, number, target.kind, limit, is_single=is_single)
        one.run()
        if as_json:
            found = {
                "queue": queue,
                "ready": target.counts.messages,
                "unacked": target.unacked,
                "consumers": target.counts.consumers,
                "counted": one.is_counted,
                "delivery_limit": limit,
                "messages": [content_of(message) for message in one.messages],
                "moved_to_end": [message.id for message in one.rescued],
            }
            click.echo(json_text(found, indent=2))
            return
        click.echo(_summary(target, site))
        for message in one.messages:
            click.echo("\n".join(["", *described(message, _facts(message, limit if one.is_counted else None))]))
        if one.is_counted and one.messages:
            read = counted(one.seen, "message")
            warn(f"queue {one_line(queue)}: this read counts as a failed delivery of {read}; {_limited(limit)}")
        for message in one.rescued:
            warn(
                f"message {one_line(message.id)}: at its delivery limit, {limit}; the message is now at the end of the"
                " queue, because the broker would otherwise have dead-lettered or dropped it"
            )


def _summary(target: Target, site: OpenProject) -> str:
    parts = [f"{target.counts.messages} ready", target.held, readers(target, site.project)]
    return f"{one_line(target.name)}: {', '.join(part for part in parts if part)}"


def _limited(limit: int | None) -> str:
    return "the queue has no delivery limit" if limit is None else f"its delivery limit is {limit}"


def _facts(message: DeadLetter, limit: int | None) -> Iterator[tuple[str, Any]]:
    headers, properties = message.headers, message.properties
    exchange, key = message.published if not message.exchange else (message.exchange, message.routing_key)
    yield from (
        ("id", message.id),
        ("type", message.type),
        ("correlation id", message.correlation_id),
        ("causation id", headers.get(CAUSATION)),
        (
            "published to",
            f"{exchange or 'the default exchange'} with key {message.routing_key if key is None else key!r}",
        ),
        ("published by", properties.get("app_id")),
        ("published at", moment(seconds_of(properties.get("timestamp")))),
        ("attempt", headers.get(ATTEMPT)),
        ("last error", headers.get(LAST_ERROR)),
    )
    if (count := headers.get(DELIVERY_COUNT)) is not None:
        yield "returned", f"{counted(count, 'time')}{'' if limit is None else f' of {limit}'}"
    yield from rare_properties(message)
