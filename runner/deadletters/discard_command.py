"""The ``dlq discard`` command, which writes dead letters to a file, removes the messages and records their removal."""

from __future__ import annotations

import base64
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from runner.admin.batch import publish_all
from runner.amqp.properties import encode
from runner.cli.export_file import ExportFile, in_a_folder, named_by_time
from runner.cli.terminal import progress, warn
from runner.deadletters.browser import Remover
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.json_record import digest, record_of
from runner.deadletters.open_queues import OpenQueues, opened
from runner.deadletters.selection import PROGRESS, check_selection, nothing, selecting, selection_of
from runner.errors import EXIT_FAILURE, EXIT_INTERRUPTED, BrokerError, BrokerRefused
from runner.escape import json_text
from runner.headers import ATTEMPT, count_of, name_of
from runner.messages import ATTEMPT_TYPE, Event, name_based_id
from runner.supervisor.control.client import post_note
from runner.topology.plan import counted

#: A substitute for the service name in notes about discarded messages, which no service handled. Order histories show
#: it.
DISCARDED_BY = "desk"


@click.command(short_help="Remove dead letters after writing them to a file.")
@selecting
@click.option("--all", "everything", is_flag=True, help="Select all dead letters.")
@click.option(
    "--file", "path", type=click.Path(path_type=Path), callback=in_a_folder, metavar="FILE",
    help="Write to this new file instead of var/discarded-TIME.jsonl.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@PROGRESS
@click.pass_obj
def discard(
    folder: Path,
    queue: str | None,
    match: str | None,
    fingerprint: str | None,
    ids: tuple[str, ...],
    everything: bool,
    path: Path | None,
    yes: bool,
    shows_progress: bool,
) -> None:
    """Write dead letters to a file as JSON lines, ask for confirmation, and remove the messages from their queues.

    Messages are removed only after the file has been written to disk. If a service records attempts, a note about each
    discarded message is first added to the order history.
    """
    check_selection(queue, match, fingerprint, ids, everything)
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(
            "standard input is not a terminal, so the command cannot ask for confirmation; use --yes"
        )
    with opened(folder, queue) as there:
        selection = selection_of(there, match, fingerprint, ids)
        file = ExportFile(path or named_by_time(there.project.var, "discarded"))
        written: dict[str, Counter[bytes]] = {}
        notes = _Notes()

        def keep(message: DeadLetter, origin: str | None) -> None:
            if selection.matches(message, origin):
                file.write(json_text(record_of(message, origin)))
                written.setdefault(message.queue, Counter())[digest(message)] += 1

        try:
            there.read(keep, "writing")
            file.sync()
            total = sum(marks.total() for marks in written.values())
            if total and not yes and not click.confirm(f"discard {counted(total, 'message')}?", default=False):
                file.remove()
                click.echo("nothing discarded")
                sys.exit(EXIT_FAILURE)
            if total:
                notes.send(there, file.path)
        except (click.Abort, KeyboardInterrupt):
            # A second Ctrl-C must not leave the file behind.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            file.remove()
            click.echo(f"nothing discarded{notes.already_sent}", err=True)
            sys.exit(EXIT_INTERRUPTED)
        except BaseException:
            file.remove()
            raise
        if not total:
            click.echo(nothing(there, "discarded", selection))
            sys.exit(EXIT_FAILURE if there.hidden else 0)
        removed = _remove(folder, there.url, written, file.path, shows_progress=shows_progress)
    click.echo(f"{counted(removed, 'message')} discarded, and written to {file.path}")
    if removed < total:
        warn(f"{counted(total - removed, 'message')} in the file had already been removed by another client")
        sys.exit(EXIT_FAILURE)


def _remove(folder: Path, url: str, written: Mapping[str, Counter[bytes]], path: Path, *, shows_progress: bool) -> int:
    """Remove the messages that were written to the file ``path``. Return the number of removed messages."""
    removed, total = 0, sum(marks.total() for marks in written.values())
    with progress("discarding", total, is_asked=shows_progress) as show_done:
        for name, marks in written.items():
            remover = Remover(url, name, marks, partial(_show_beyond, show_done, removed))
            try:
                remover.run()
            except (BrokerError, BrokerRefused, KeyboardInterrupt):
                done = f"about {removed + remover.answered} of {total} messages discarded"
                warn(f"{done}; {path} contains all of these messages")
                raise
            finally:
                removed += remover.answered
                if remover.answered:
                    text = f"dlq discard: {counted(remover.answered, 'message')} discarded"
                    post_note(folder, "command", name, text)
    return removed


class _Notes:
    """Notes about discarded messages, which are sent only if attempts are recorded."""

    def __init__(self) -> None:
        self._sent = 0

    def send(self, there: OpenQueues, file: Path) -> None:
        """Publish a note for each message in the file, to record that a user discarded the message.

        The notes are published before the messages are removed, so that no message disappears without a record. If
        another client removes a message first, a surplus note does less harm than a missing note would. Raises
        BrokerError if the broker does not confirm every note.
        """
        queue, now = there.attempts_queue, int(time.time() * 1000)
        if queue is None:
            return
        with file.open(encoding="utf-8") as lines:
            notes = (encode(discard_note(json.loads(line), number, queue, now)) for number, line in enumerate(lines))
            try:
                publish_all(there.url, "runner notes", notes, self._count)
            except (BrokerError, BrokerRefused) as error:
                raise type(error)(
                    f"order history: not all notes were sent, so no message was discarded{self.already_sent}: {error}"
                ) from None

    @property
    def already_sent(self) -> str:
        """The part of an error message about the notes that were already sent."""
        if not self._sent:
            return ""
        count = counted(self._sent, "message")
        return f" (the order history may show {count} as discarded, because the notes were already sent)"

    def _count(self, sent: int) -> None:
        self._sent = sent


def _show_beyond(show_done: Callable[[int], None], before: int, done: int) -> None:
    show_done(before + done)


def discard_note(record: Mapping[str, Any], number: int, queue: str, now: int) -> Event:
    """Return a note about a discarded message. The note is published to ``queue`` through the default exchange.

    ``record`` is the message as returned by ``record_of``. ``number`` distinguishes identical messages. ``now`` is in
    milliseconds since the epoch.
    """
    properties, headers = record["properties"], record["headers"]
    order_id = name_of(_raw(properties.get("correlation_id"))) or None
    origin = record["origin"] or record["queue"]
    body = {
        "order_id": order_id,
        "message_id": record["id"],
        "message_type": name_of(_raw(properties.get("type"))),
        "queue": origin,
        "service": DISCARDED_BY,
        # No instance handled the message, so the note names the dead-letter queue.
        "instance": record["queue"],
        # This number is higher than the last attempt's, so the note comes last even if this machine's clock is behind
        # the worker's clock.
        "attempt": (count_of(headers.get(ATTEMPT)) or 1) + 1,
        "replays": int(record["replays"]),
        "outcome": "discarded",
        "error": record["error"],
        "delay": None,
        "sent_at": None,
        "began_at": now,
        "ended_at": now,
        "redelivered": False,
        "replayed_at": None,
    }
    which = f"{origin}/{record['id']}/{record['queue']}/{now}/{number}"
    return Event(
        ATTEMPT_TYPE,
        body,
        exchange="",
        routing_key=queue,
        id=name_based_id(which),
        correlation_id=order_id,
        causation_id=record["id"],
        app_id=DISCARDED_BY,
    )


def _raw(value: object) -> object:
    """Convert a property in a record to an AMQP value. In records, bytes that are not UTF-8 are encoded as base64."""
    return base64.b64decode(value["$bytes"]) if isinstance(value, Mapping) and "$bytes" in value else value
