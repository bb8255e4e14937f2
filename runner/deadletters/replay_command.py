"""``dlq replay``: parked messages go back to the queue that they failed in, ``--edit``: with another body."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from runner.admin.queue_counts import look
from runner.amqp.properties import MAX_BODY
from runner.bounded_file import FileTooLarge, read_bounded
from runner.cli.export_file import ExportFile, named_by_time
from runner.cli.terminal import progress, stoppable, warn
from runner.deadletters.dead_letter import DeadLetter, text_of
from runner.deadletters.json_record import fingerprint, record_of
from runner.deadletters.message_text import brief, one_line
from runner.deadletters.open_queues import OpenQueues, opened
from runner.deadletters.replay import replay as replay_queue
from runner.deadletters.replay_rules import Pace, ReplayRules, Tally
from runner.deadletters.selection import check_selection, nothing, selecting, selection_of
from runner.errors import EXIT_FAILURE, BrokerError, BrokerRefused
from runner.escape import json_text
from runner.strict_json import decode_json
from runner.topology.plan import counted

#: How many messages a dry run names for each queue.
MOST_NAMED = 20
_JSON = "application/json"


def _rate(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"no number of messages, {value:g}; allowed: a finite number above 0")
    return value


@click.command(short_help="Send messages back to the queue they failed in.")
@selecting
@click.option("--all", "everything", is_flag=True, help="All that is parked.")
@click.option("--again", is_flag=True, help="Also what was replayed 3 times already.")
@click.option("--rate", type=float, callback=_rate, metavar="N", help="At most N messages a second.")
@click.option(
    "--edit", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="With what stands in FILE as its body, the message as it was in var/replaced-TIME.jsonl; takes one --id.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.pass_obj
def replay(
    folder: Path,
    queue: str | None,
    match: str | None,
    ids: tuple[str, ...],
    everything: bool,
    again: bool,
    rate: float | None,
    edit: Path | None,
    dry_run: bool,
) -> None:
    """Send parked messages back to the queue that they failed in, with all their retries before them.

    Each leaves its dead-letter queue only when the broker has confirmed its copy. What fails again in the meantime is
    not sent again, and what was replayed 3 times already only where --id names it, or with --again. After Ctrl-C, or a
    broker that goes away, nothing is lost: run it again. Exits with 1 when some of what was meant stays.
    """
    check_selection(queue, match, ids, everything)
    edited = None if edit is None else BodyEdit.of(edit, ids)
    with opened(folder, queue) as there:
        selection = selection_of(there, match, ids, is_single=edited is not None)
        judge, tally = ReplayRules(there.places, selection, int(time.time() * 1000), again), Tally()
        if edited is not None:
            judge = _check_edit(there, judge, edited, dry_run)
        if dry_run:
            sys.exit(_foretell(there, judge, tally))
        code = _replay(there, judge, tally, rate, None if edited is None else edited.body)
    if code:
        left = there.total - tally.replayed
        click.echo(f"interrupted: {counted(tally.replayed, 'message')} replayed, {left} left on the desk")
        sys.exit(code)
    _say_stays(tally)
    if tally.replayed:
        click.echo(f"{counted(tally.replayed, 'message')} replayed")
    else:
        click.echo(nothing(there, "replayed", selection, tally.stayed))
    sys.exit(EXIT_FAILURE if tally.stayed or (there.hidden and not tally.replayed) else 0)


def _check_edit(there: OpenQueues, judge: ReplayRules, edited: BodyEdit, dry_run: bool) -> ReplayRules:
    """Write down the message that is about to get another body; returns who lets pass that one and no other."""
    found: list[tuple[DeadLetter, str | None]] = []
    there.read(lambda letter, origin: found.append((letter, origin)) if judge.judge(letter)[0] is not None else None)
    for letter, origin in found:
        edited.check(letter)
        if dry_run:
            click.echo(edited.foretold(letter))
        else:
            click.echo(f"the message as it was is in {edited.keep(letter, origin, there.project.var)}")
        return replace(judge, only=fingerprint(letter))
    # Without the original in a file nothing may get another body, should it be there again in a moment.
    return replace(judge, only=b"")


def _replay(there: OpenQueues, judge: ReplayRules, tally: Tally, rate: float | None, body: bytes | None) -> int:
    """Do it; returns the exit code of an end before the end, else 0."""
    is_long = rate is not None and there.total / rate > 5
    with progress("replaying", there.total, is_long=is_long) as show_done, stoppable() as stop:
        pace, done = Pace(rate), 0
        for name, count in there.counts.items():
            try:
                replay_queue(
                    there.url, name, count, judge, pace, tally,
                    body=body, on_progress=show_done, is_stopped=stop.is_wished,
                )  # fmt: skip
            except (BrokerError, BrokerRefused) as error:
                words = f"{counted(tally.replayed, 'message')} replayed before that; nothing is lost, run it again"
                raise type(error)(f"{error}\n{words}") from None
            done += count
            if stop.is_wished():
                break
            show_done(done)
        return stop.exit_code


def _say_stays(tally: Tally, word: str = "left") -> None:
    for queue, reasons in tally.stays.items():
        for why, stay in reasons.items():
            more = ", …" if stay.count > len(stay.examples) else ""
            names = ", ".join(one_line(one) for one in stay.examples)
            warn(f"{word} in {queue}, {counted(stay.count, 'message')}: {why} ({names}{more})")


def _foretell(there: OpenQueues, judge: ReplayRules, tally: Tally) -> int:
    """Say what would be done; returns the exit code."""
    named: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()

    def each(letter: DeadLetter, _: str | None) -> None:
        target, why = judge.judge(letter)
        if target is not None:
            counts[target] += 1
            if counts[target] <= MOST_NAMED:
                named.setdefault(target, []).append(brief(letter))
        elif why is not None:
            tally.stay(letter, why)

    there.read(each)
    _, found = look([there.url], list(counts))
    for target, lines in named.items():
        gone = "" if found[target] is not None else "; but that queue is not there any more, so they would stay"
        click.echo(f"would replay {counted(counts[target], 'message')} to {one_line(target)}{gone}")
        more = counts[target] - len(lines)
        click.echo("\n".join([*lines, *([f"  and {more} more"] if more else [])]))
    _say_stays(tally, "would stay")
    click.echo("nothing was changed" if counts else nothing(there, "would be replayed", judge.selection, tally.stayed))
    return EXIT_FAILURE if there.hidden and not counts and not tally.stayed else 0


@dataclass(frozen=True)
class BodyEdit:
    """What stands in a file, to be one message's body."""

    path: Path
    body: bytes

    @classmethod
    def of(cls, path: Path, ids: Sequence[str]) -> BodyEdit:
        """Read the file for the message of the only ``--id``. Raises click.UsageError."""
        if len(ids) != 1:
            raise click.UsageError("--edit: which message is meant is not clear; allowed: exactly one --id")
        try:
            body = read_bounded(path, MAX_BODY)
        except FileTooLarge as error:
            raise click.BadParameter(f"{path}: too large; allowed: {error.limit} bytes", param_hint="--edit") from None
        except OSError as error:
            raise click.BadParameter(f"{path}: cannot be read, {error.strerror}", param_hint="--edit") from None
        return cls(path, body)

    def check(self, letter: DeadLetter) -> None:
        """Refuse what the message's handlers could not even read. Raises click.BadParameter."""
        why = _why_json(letter)
        if why is None:
            return
        try:
            decode_json(self.body)
        except ValueError as error:
            text = f"{self.path}: is not JSON, {error}; allowed: JSON, because the message's {why}"
            raise click.BadParameter(text, param_hint="--edit") from None

    def keep(self, letter: DeadLetter, origin: str | None, var: Path) -> Path:
        """Write the message as it was to a new file; returns its path once it is on the disk. Raises RunnerError."""
        file = ExportFile(named_by_time(var, "replaced"))
        file.write(json_text(record_of(letter, origin)))
        file.sync()
        return file.path

    def foretold(self, letter: DeadLetter) -> str:
        """What would be replaced, in words."""
        return f"its body of {counted(len(letter.body), 'byte')} would be replaced by {len(self.body)} of {self.path}"


def _why_json(letter: DeadLetter) -> str | None:
    """What says that the body must be JSON, None where nothing does."""
    kind = text_of(letter.properties.get("content_type"))
    if kind.partition(";")[0].strip().lower() == _JSON:
        return f"content type is {_JSON}"
    try:
        # A number or a word may well be meant as text.
        return "body is JSON now" if isinstance(decode_json(letter.body), dict | list) else None
    except ValueError:
        return None
