"""``dlq discard``: parked messages go into a file, and off the desk."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from runner.admin.batch import publish_all
from runner.amqp.properties import encode
from runner.cli.export_file import ExportFile, in_a_folder, named_by_time
from runner.cli.terminal import progress, warn
from runner.deadletters.browser import Taker
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.discard_note import discard_note
from runner.deadletters.json_record import fingerprint, record_of
from runner.deadletters.open_queues import OpenQueues, opened
from runner.deadletters.selection_options import check_selection, nothing, selecting, selection_of
from runner.errors import EXIT_FAILURE, EXIT_INTERRUPTED, BrokerError, BrokerRefused
from runner.escape import json_text
from runner.topology.change import counted


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
        return f" (order show may tell of {self._sent} that were: their notes had gone out)"

    def _count(self, sent: int) -> None:
        self._sent = sent


def _show_beyond(show_done: Callable[[int], None], before: int, done: int) -> None:
    show_done(before + done)
