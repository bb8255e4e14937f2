"""``dlq discard``: parked messages go into a file and off the desk, with a note of each in the order history."""

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
from runner.deadletters.browser import Taker
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.json_record import fingerprint, record_of
from runner.deadletters.open_queues import OpenQueues, opened
from runner.deadletters.selection import check_selection, nothing, selecting, selection_of
from runner.errors import EXIT_FAILURE, EXIT_INTERRUPTED, BrokerError, BrokerRefused
from runner.escape import json_text
from runner.headers import ATTEMPT, count_of, name_of
from runner.messages import ATTEMPT_TYPE, Event, name_based_id
from runner.topology.plan import counted

#: What stands for a service in the note: no service had the message.
DESK = "desk"


@click.command(short_help="Write messages to a file and take them off the desk.")
@selecting
@click.option("--all", "everything", is_flag=True, help="All that is parked.")
@click.option(
    "--to", type=click.Path(path_type=Path), callback=in_a_folder, metavar="FILE",
    help="The file; var/discarded-TIME.jsonl else.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def discard(
    folder: Path,
    queue: str | None,
    match: str | None,
    ids: tuple[str, ...],
    everything: bool,
    to: Path | None,
    yes: bool,
) -> None:
    """Write messages to a file of JSON lines, ask, and take them off the desk.

    Only what is safe in the file is taken off. Where tries are traced, it is noted first that a person discarded them.
    """
    check_selection(queue, match, ids, everything)
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here; --yes discards without a question")
    with opened(folder, queue) as there:
        selection = selection_of(there, match, ids)
        file = ExportFile(to or named_by_time(there.project.var, "discarded"))
        written: dict[str, Counter[bytes]] = {}
        notes = _Notes()

        def keep(letter: DeadLetter, origin: str | None) -> None:
            if selection.takes(letter, origin):
                file.write(json_text(record_of(letter, origin)))
                written.setdefault(letter.queue, Counter())[fingerprint(letter)] += 1

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
            click.echo(f"nothing discarded{notes.sent_in_vain}", err=True)
            sys.exit(EXIT_INTERRUPTED)
        except BaseException:
            file.remove()
            raise
        if not total:
            click.echo(nothing(there, "discarded", selection))
            sys.exit(EXIT_FAILURE if there.hidden else 0)
        taken = 0
        with progress("discarding", total) as show_done:
            for name, marks in written.items():
                before = taken
                taker = Taker(there.url, name, marks, partial(_show_beyond, show_done, before))
                try:
                    taker.run()
                except (BrokerError, BrokerRefused, KeyboardInterrupt):
                    warn(f"about {before + taker.answered} of {total} discarded; all of them are in {file.path}")
                    raise
                taken += taker.answered
    click.echo(f"{counted(taken, 'message')} discarded, and written to {file.path}")
    if taken < total:
        warn(f"{counted(total - taken, 'message')} of the file had left the desk meanwhile, by somebody else's hands")
        sys.exit(EXIT_FAILURE)


class _Notes:
    """The notes that messages were discarded, where tries are noted."""

    def __init__(self) -> None:
        self._sent = 0

    def send(self, there: OpenQueues, file: Path) -> None:
        """Have it noted of each message of the file that a person discarded it.

        Before anything is taken away, so that nothing leaves without a record: a note of a message that others take
        meanwhile does less harm than none of one that is gone. Raises BrokerError where not all is confirmed.
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
                    f"attempts: not reported, so nothing is discarded{self.sent_in_vain}, {error}"
                ) from None

    @property
    def sent_in_vain(self) -> str:
        """What to say where nothing is discarded after all: what was sent cannot be taken back."""
        if not self._sent:
            return ""
        return f" (order history may tell of {self._sent} that were: their notes had gone out)"

    def _count(self, sent: int) -> None:
        self._sent = sent


def _show_beyond(show_done: Callable[[int], None], before: int, done: int) -> None:
    show_done(before + done)


def discard_note(record: Mapping[str, Any], number: int, queue: str, now: int) -> Event:
    """The note, to be sent to ``queue`` by the default exchange, of a message that ``record_of`` has written down.

    ``number`` tells apart messages that are alike in everything; ``now`` is in milliseconds since the epoch.
    """
    properties, headers = record["properties"], record["headers"]
    order_id = name_of(_raw(properties.get("correlation_id"))) or None
    origin = record["origin"] or record["queue"]
    body = {
        "order_id": order_id,
        "message_id": record["id"],
        "message_type": name_of(_raw(properties.get("type"))),
        "queue": origin,
        "service": DESK,
        # In the place of the process that had it: the queue that it was taken from.
        "instance": record["queue"],
        # After the try that parked it, also where this machine's clock is behind the worker's.
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
        app_id=DESK,
    )


def _raw(value: object) -> object:
    """Return a record's property as an AMQP value; records contain bytes that are not UTF-8 as base64."""
    return base64.b64decode(value["$bytes"]) if isinstance(value, Mapping) and "$bytes" in value else value
