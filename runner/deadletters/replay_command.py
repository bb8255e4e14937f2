"""The ``dlq replay`` command, which sends dead letters back to the queues in which they failed."""

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
from runner.deadletters.replay_rules import MOST_REPLAYS, Pace, ReplayRules, Tally
from runner.deadletters.selection import check_selection, nothing, selecting, selection_of
from runner.errors import EXIT_FAILURE, BrokerError, BrokerRefused
from runner.escape import json_text
from runner.strict_json import decode_json
from runner.topology.plan import counted

#: The maximum number of messages that a dry run lists for each queue.
MOST_NAMED = 20
_JSON = "application/json"


def _rate(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"not a rate, {value:g}; allowed: a finite number above 0")
    return value


@click.command(short_help="Send dead letters back to the queues in which they failed.")
@selecting
@click.option("--all", "everything", is_flag=True, help="Select all dead letters.")
@click.option(
    "--include-replayed", is_flag=True, help=f"Include messages that were already replayed {MOST_REPLAYS} times."
)
@click.option("--rate", type=float, callback=_rate, metavar="N", help="Replay at most N messages per second.")
@click.option(
    "--body", "path", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="Replace the body with the content of FILE, after saving the original message to var/replaced-TIME.jsonl."
    " Requires exactly one --id.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="List the messages that would be replayed, without replaying them.")
@click.pass_obj
def replay(
    folder: Path,
    queue: str | None,
    match: str | None,
    ids: tuple[str, ...],
    everything: bool,
    include_replayed: bool,
    rate: float | None,
    path: Path | None,
    dry_run: bool,
) -> None:
    """Send dead letters back to the queues in which they failed.

    The attempts of a replayed message are counted from 1 again.

    A message is removed from its dead-letter queue only after the broker has confirmed the copy. A message that fails
    again while the command is running is not replayed again. To replay a message more than 3 times, use --id or
    --include-replayed. If Ctrl-C or a lost connection interrupts the command, no message is lost, and you can run the
    command again. Exits with 1 if a selected message is not replayed.
    """
    check_selection(queue, match, ids, everything)
    new_body = None if path is None else NewBody.of(path, ids)
    with opened(folder, queue) as there:
        selection = selection_of(there, match, ids, is_single=new_body is not None)
        judge, tally = ReplayRules(there.places, selection, int(time.time() * 1000), include_replayed), Tally()
        if new_body is not None:
            judge = _keep_original(there, judge, new_body, dry_run)
        if dry_run:
            sys.exit(_dry_run(there, judge, tally))
        code = _replay(there, judge, tally, rate, None if new_body is None else new_body.body)
    if code:
        left = there.total - tally.replayed
        click.echo(f"interrupted: {counted(tally.replayed, 'message')} replayed, {left} left")
        sys.exit(code)
    _warn_of_kept(tally)
    if tally.replayed:
        click.echo(f"{counted(tally.replayed, 'message')} replayed")
    else:
        click.echo(nothing(there, "replayed", selection, tally.stayed))
    sys.exit(EXIT_FAILURE if tally.stayed or (there.hidden and not tally.replayed) else 0)


def _keep_original(there: OpenQueues, judge: ReplayRules, new_body: NewBody, dry_run: bool) -> ReplayRules:
    """Save a message to a file before its body is replaced, and return rules that select only this message."""
    found: list[tuple[DeadLetter, str | None]] = []
    there.read(lambda message, origin: found.append((message, origin)) if judge.judge(message)[0] is not None else None)
    for message, origin in found:
        new_body.check(message)
        if dry_run:
            click.echo(new_body.preview(message))
        else:
            click.echo(f"original message written to {new_body.keep(message, origin, there.project.var)}")
        return replace(judge, only=fingerprint(message))
    # The message may reappear in the queue, but its body must not be replaced until the original is in a file.
    return replace(judge, only=b"")


def _replay(there: OpenQueues, judge: ReplayRules, tally: Tally, rate: float | None, body: bytes | None) -> int:
    """Replay the messages. Return the exit code of an interruption, or 0."""
    is_long = rate is not None and there.total / rate > 5
    with progress("replaying", there.total, is_long=is_long) as show_done, stoppable() as stop:
        pace, done = Pace(rate), 0
        for name, count in there.counts.items():
            try:
                replay_queue(
                    there.url, name, count, judge, pace, tally,
                    body=body, on_progress=show_done, is_stopped=stop.is_set,
                )  # fmt: skip
            except (BrokerError, BrokerRefused) as error:
                replayed = counted(tally.replayed, "message")
                words = f"{replayed} replayed, and no message has been lost; to replay the rest, run the command again"
                raise type(error)(f"{error}\n{words}") from None
            done += count
            if stop.is_set():
                break
            show_done(done)
        return stop.exit_code


def _warn_of_kept(tally: Tally, word: str = "left") -> None:
    for queue, reasons in tally.stays.items():
        for why, stay in reasons.items():
            more = ", …" if stay.count > len(stay.examples) else ""
            names = ", ".join(one_line(one) for one in stay.examples)
            warn(f"{counted(stay.count, 'message')} {word} in {queue}: {why} ({names}{more})")


def _dry_run(there: OpenQueues, judge: ReplayRules, tally: Tally) -> int:
    """Print the messages that a replay would send. Return the exit code."""
    named: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()

    def each(message: DeadLetter, _: str | None) -> None:
        target, why = judge.judge(message)
        if target is not None:
            counts[target] += 1
            if counts[target] <= MOST_NAMED:
                named.setdefault(target, []).append(brief(message))
        elif why is not None:
            tally.stay(message, why)

    there.read(each)
    _, found = look([there.url], list(counts))
    for target, lines in named.items():
        gone = "" if found[target] is not None else ", but this queue no longer exists, so no replay is possible"
        click.echo(f"would replay {counted(counts[target], 'message')} to {one_line(target)}{gone}")
        more = counts[target] - len(lines)
        click.echo("\n".join([*lines, *([f"  and {more} more"] if more else [])]))
    _warn_of_kept(tally, "would remain")
    click.echo("nothing was changed" if counts else nothing(there, "would be replayed", judge.selection, tally.stayed))
    return EXIT_FAILURE if there.hidden and not counts and not tally.stayed else 0


@dataclass(frozen=True)
class NewBody:
    """A new message body, read from a file."""

    path: Path
    body: bytes

    @classmethod
    def of(cls, path: Path, ids: Sequence[str]) -> NewBody:
        """Read a new body from ``path``.

        Raises click.UsageError if the file is unreadable or ``ids`` is not exactly one id.
        """
        if len(ids) != 1:
            raise click.UsageError(f"--body: {len(ids)} --id options were given; allowed: exactly one --id")
        try:
            body = read_bounded(path, MAX_BODY)
        except FileTooLarge as error:
            text = f"{path}: too large; allowed: at most {error.limit} bytes"
            raise click.BadParameter(text, param_hint="--body") from None
        except OSError as error:
            raise click.BadParameter(f"{path}: cannot be read, {error.strerror}", param_hint="--body") from None
        return cls(path, body)

    def check(self, message: DeadLetter) -> None:
        """Raise click.BadParameter if the new body must be JSON but is not."""
        why = _why_json(message)
        if why is None:
            return
        try:
            decode_json(self.body)
        except ValueError as error:
            text = f"{self.path}: not JSON, {error}; allowed: JSON, because the message's {why}"
            raise click.BadParameter(text, param_hint="--body") from None

    def keep(self, message: DeadLetter, origin: str | None, var: Path) -> Path:
        """Save the original message to a new file, and return the file's path. Raises RunnerError."""
        file = ExportFile(named_by_time(var, "replaced"))
        file.write(json_text(record_of(message, origin)))
        file.sync()
        return file.path

    def preview(self, message: DeadLetter) -> str:
        """Return the line that a dry run prints about the old and the new body."""
        sizes = counted(len(message.body), "byte"), counted(len(self.body), "byte")
        return f"would replace the body ({sizes[0]}) with {self.path} ({sizes[1]})"


def _why_json(message: DeadLetter) -> str | None:
    """Return the reason why the new body must be JSON, or None if any body is allowed."""
    kind = text_of(message.properties.get("content_type"))
    if kind.partition(";")[0].strip().lower() == _JSON:
        return f"content type is {_JSON}"
    try:
        # A number or a word may be plain text, so only an object or an array counts as JSON.
        return "body is JSON now" if isinstance(decode_json(message.body), dict | list) else None
    except ValueError:
        return None
