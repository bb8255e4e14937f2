"""The ``publish`` command, which publishes one message to a queue and waits for the broker's confirm."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from runner.admin.batch import publish_all
from runner.amqp.properties import MAX_BODY, encode
from runner.bounded_file import FileTooLarge, read_bounded
from runner.deadletters.message_text import one_line
from runner.errors import PublishRefused, Unroutable
from runner.escape import json_text
from runner.headers import is_reserved
from runner.messages import JSON_CONTENT_TYPE, Event, random_id
from runner.queues.target import open_project
from runner.strict_json import decode_json
from runner.supervisor.control.client import post_note

#: The publisher's name in the message's ``app_id``.
PUBLISHER = "publish"
#: The content types of bodies that are not JSON.
TEXT, BYTES = "text/plain", "application/octet-stream"


def _headers(_: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Return the headers by name. Raises BadParameter for an invalid, repeated or reserved name."""
    found: dict[str, str] = {}
    for one in values:
        name, is_pair, value = one.partition("=")
        if not is_pair or not name:
            raise click.BadParameter(f"not valid, {one!r}; allowed: NAME=VALUE", param=param)
        if is_reserved(name):
            text = f"reserved name, {name!r}, which workers or the broker set; allowed: any other name"
            raise click.BadParameter(text, param=param)
        if name in found:
            raise click.BadParameter(f"given twice, {name!r}; allowed: each name once", param=param)
        found[name] = value
    return found


@click.command(short_help="Publish one message to a queue.")
@click.argument("queue")
@click.option("--type", "type_", default="", metavar="TYPE", help="The message's type, such as order.created.")
@click.option("--body", "text", metavar="TEXT", help="The body as text, such as '{\"amount\": 5}'.")
@click.option(
    "--file", "path", type=click.Path(), metavar="FILE",
    help="Read the body from FILE, or from standard input if FILE is '-'.",
)  # fmt: skip
@click.option(
    "--header", "headers", multiple=True, callback=_headers, metavar="NAME=VALUE",
    help="Add a header with a text value. Can be given several times.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def publish(
    folder: Path, queue: str, type_: str, text: str | None, path: str | None, headers: dict[str, str], as_json: bool
) -> None:
    """Publish one persistent message to QUEUE only, and print the id of the message.

    The message goes through the default exchange, so no binding is involved. The command returns after the broker has
    confirmed that the message is in the queue. The content type is application/json if the body is JSON.
    """
    body = _body(text, path)
    message_id = random_id()
    event = Event(
        type_, body, exchange="", routing_key=queue, headers=headers, id=message_id,
        content_type=content_type_of(body), app_id=PUBLISHER,
    )  # fmt: skip
    with open_project(folder) as site:
        site.find(queue, "QUEUE")
        try:
            encoded = encode(event)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        try:
            publish_all(site.url, "runner publish", [encoded])
        except Unroutable:
            raise Unroutable(f"queue {queue!r}: was deleted meanwhile; the message was not published") from None
        except PublishRefused:
            text = "the broker refused the message, probably because the queue is full"
            raise PublishRefused(f"queue {queue!r}: {text}; the message was not published") from None
    post_note(folder, "command", queue, f"one message was published by hand, {message_id}")
    if as_json:
        found: dict[str, Any] = {"queue": queue, "id": message_id, "type": type_}
        found |= {"content_type": event.content_type, "bytes": len(body)}
        click.echo(json_text(found, indent=2))
    else:
        click.echo(f"published to {one_line(queue)}: {message_id}")


def content_type_of(body: bytes) -> str:
    """Return the content type of a body: JSON, text or bytes."""
    try:
        decode_json(body)
    except ValueError:
        try:
            body.decode()
        except UnicodeDecodeError:
            return BYTES
        return TEXT
    return JSON_CONTENT_TYPE


def _body(text: str | None, path: str | None) -> bytes:
    """Return the body from the command line, a file or standard input. Raises UsageError and BadParameter."""
    if (text is None) == (path is None):
        given = "no body" if text is None else "--body and --file were both given"
        raise click.UsageError(f"{given}; allowed: exactly one of --body TEXT and --file FILE")
    if text is not None:
        # An argument that is not UTF-8 contains surrogates, which stand for its bytes.
        return text.encode("utf-8", "surrogateescape")
    try:
        return read_bounded(sys.stdin.buffer if path == "-" else Path(str(path)), MAX_BODY)
    except FileTooLarge as error:
        problem = f"{path}: too large; allowed: at most {error.limit} bytes"
    except OSError as error:
        problem = f"{path}: cannot be read, {error.strerror}"
    raise click.BadParameter(problem, param_hint="--file")
