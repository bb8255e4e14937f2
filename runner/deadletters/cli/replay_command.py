"""``dlq replay``: parked messages go back to the queue that they failed in."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import click

from runner.admin.queue_counts import look
from runner.cli.progress import progress, stoppable, warn
from runner.deadletters.cli.body_edit import BodyEdit
from runner.deadletters.cli.message_text import brief, one_line
from runner.deadletters.cli.open_queues import OpenQueues, opened
from runner.deadletters.cli.selection_options import check_selection, nothing, selecting, selection_of
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.json_record import fingerprint
from runner.deadletters.replay import replay as replay_queue
from runner.deadletters.replay_rules import Pace, ReplayRules, Tally
from runner.errors import EXIT_FAILURE, BrokerError, BrokerRefused
from runner.topology.change import counted

#: How many messages a dry run names for each queue.
MOST_NAMED = 20


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
