"""The ``dlq replay`` command, which sends dead letters back to the queues in which they failed."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from runner.admin.queue_counts import look
from runner.cli.terminal import progress, stoppable, warn
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.json_record import digest
from runner.deadletters.message_text import brief, one_line
from runner.deadletters.new_body import NewBody
from runner.deadletters.open_queues import ALL_QUEUES, OpenQueues, opened
from runner.deadletters.replay import replay as replay_queue
from runner.deadletters.replay_rules import MOST_REPLAYS, Pace, ReplayRules, Tally
from runner.deadletters.selection import PROGRESS, check_selection, nothing, selecting, selection_of
from runner.errors import EXIT_FAILURE, BrokerError, BrokerRefused
from runner.supervisor.control.client import post_note
from runner.topology.plan import counted

#: The maximum number of messages that a dry run lists for each queue.
MOST_NAMED = 20


def _rate(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"not a rate, {value:g}; allowed: a finite number above 0")
    return value


def _milliseconds(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        return int(datetime.fromisoformat(value).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"not a time, {value!r}; allowed: a time in ISO 8601, such as 2026-11-25T18:23:12Z"
        ) from None


@click.command(short_help="Send dead letters back to the queues in which they failed.")
@selecting
@click.option("--all", "everything", is_flag=True, help="Select all dead letters.")
@click.option(
    "--include-replayed", is_flag=True, help=f"Include messages that were already replayed {MOST_REPLAYS} times."
)
@click.option(
    "--skip-replayed-since", "since", callback=_milliseconds, metavar="TIME",
    help="Skip messages that were replayed at TIME or later, for example to continue an interrupted replay. TIME is in"
    " ISO 8601, such as 2026-11-25T18:23:12Z, and in local time if there is no time zone.",
)  # fmt: skip
@click.option("--rate", type=float, callback=_rate, metavar="N", help="Replay at most N messages per second.")
@click.option(
    "--body", "path", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="Replace the body with the content of FILE, after saving the original message to var/replaced-TIME.jsonl."
    " Requires exactly one --id.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="List the messages that would be replayed, without replaying them.")
@PROGRESS
@click.pass_obj
def replay(
    folder: Path,
    queue: str | None,
    match: str | None,
    fingerprint: str | None,
    ids: tuple[str, ...],
    everything: bool,
    include_replayed: bool,
    since: int | None,
    rate: float | None,
    path: Path | None,
    dry_run: bool,
    shows_progress: bool,
) -> None:
    """Send dead letters back to the queues in which they failed.

    The attempts of a replayed message are counted from 1 again.

    A message is removed from its dead-letter queue only after the broker has confirmed the copy. A message that fails
    again while the command is running is not replayed again. To replay a message more than 3 times, use --id or
    --include-replayed. If Ctrl-C or a lost connection interrupts the command, no message is lost, and you can run the
    command again. Exits with 1 if a selected message is not replayed.
    """
    check_selection(queue, match, fingerprint, ids, everything)
    new_body = None if path is None else NewBody.of(path, ids)
    with opened(folder, queue) as there:
        selection = selection_of(there, match, fingerprint, ids, is_single=new_body is not None)
        judge = ReplayRules(there.places, selection, int(time.time() * 1000), include_replayed, since)
        tally = Tally()
        if new_body is not None:
            judge = _keep_original(there, judge, new_body, dry_run)
        if dry_run:
            sys.exit(_dry_run(there, judge, tally))
        total = there.total
        if shows_progress or (rate is not None and not selection.is_of_queue):
            total = _count(there, judge)
        try:
            new = None if new_body is None else new_body.body
            code = _replay(there, judge, tally, rate, new, total, shows_progress)
        finally:
            if tally.replayed:
                text = f"dlq replay: {counted(tally.replayed, 'message')} replayed"
                post_note(folder, "command", queue or ALL_QUEUES, text)
    if code:
        left = max(0, total - tally.replayed)
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
        return replace(judge, only=digest(message))
    # The message may reappear in the queue, but its body must not be replaced until the original is in a file.
    return replace(judge, only=b"")


def _count(there: OpenQueues, judge: ReplayRules) -> int:
    """Return the number of messages that a replay will send."""
    count = 0

    def each(message: DeadLetter, _: str | None) -> None:
        nonlocal count
        count += judge.judge(message)[0] is not None

    there.read(each, "counting")
    return count


def _replay(
    there: OpenQueues,
    judge: ReplayRules,
    tally: Tally,
    rate: float | None,
    body: bytes | None,
    total: int,
    shows_progress: bool,
) -> int:
    """Replay about ``total`` messages. Return the exit code of an interruption, or 0."""
    is_long = rate is not None and total / rate > 5
    shown = progress("replaying", total, is_long=is_long, is_asked=shows_progress)
    with shown as show_done, stoppable() as stop:
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
            # Without a count of the selected messages, the total includes messages that are not selected.
            show_done(done if total == there.total else tally.replayed)
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
