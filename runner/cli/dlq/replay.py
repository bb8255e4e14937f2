"""``dlq replay``: parked messages go back to the queue that they failed in."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

import click

from runner.amqp.desk import look
from runner.amqp.properties import MAX_BODY
from runner.amqp.replay import replay as replay_queue
from runner.cli.dlq.desk import Opened, opened, progress, stoppable, warn
from runner.cli.dlq.letter import brief, one_line
from runner.cli.dlq.selection import check_selection, nothing, selecting, selection_of
from runner.desk.letter import Letter
from runner.desk.replay import Judge, Pace, Tally
from runner.errors import EXIT_FAILURE, EXIT_INTERRUPTED, BrokerError
from runner.topology.change import counted

#: How many messages a dry run names for each queue.
MOST_NAMED = 20


@click.command(short_help="Send messages back to the queue they failed in.")
@selecting
@click.option("--all", "everything", is_flag=True, help="All that is parked.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="At most N messages a second.")
@click.option(
    "--edit", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="With what stands in FILE as its body; takes exactly one --id.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.pass_obj
def replay(
    folder: Path,
    queue: str | None,
    match: str | None,
    ids: tuple[str, ...],
    everything: bool,
    rate: float | None,
    edit: Path | None,
    dry_run: bool,
) -> None:
    """Send parked messages back to the queue that they failed in, with all their retries before them.

    Each leaves its dead-letter queue only when the broker has confirmed its copy. What fails again in the meantime is
    not sent again, and what was replayed 3 times already only where --id names it. After Ctrl-C, or a broker that goes
    away, nothing is lost: run it again. Exits with 1 when some of what was meant stays.
    """
    check_selection(queue, match, ids, everything)
    if edit is not None and len(ids) != 1:
        raise click.UsageError("--edit: which message is meant is not clear; allowed: exactly one --id")
    body = None if edit is None else edit.read_bytes()
    if body is not None and len(body) > MAX_BODY:
        raise click.BadParameter(f"too large, {len(body)} bytes; allowed: {MAX_BODY}", param_hint="--edit")
    with opened(folder, queue) as there:
        selection = selection_of(there, match, ids, is_single=edit is not None)
        judge = Judge(there.places, selection, int(time.time() * 1000))
        tally = Tally()
        if dry_run:
            _foretell(there, judge, tally)
            return
        is_long = rate is not None and there.total / rate > 5
        with progress("replaying", there.total, is_long=is_long) as show_done, stoppable() as is_stopped:
            pace, done = Pace(rate), 0
            for name, count in there.counts.items():
                try:
                    replay_queue(
                        there.url, name, count, judge, pace, tally,
                        body=body, on_progress=show_done, is_stopped=is_stopped,
                    )  # fmt: skip
                except BrokerError as error:
                    words = f"{counted(tally.replayed, 'message')} replayed before that; nothing is lost, run it again"
                    raise type(error)(f"{error}\n{words}") from None
                done += count
                if is_stopped():
                    break
                show_done(done)
            stopped = is_stopped()
    if stopped:
        left = there.total - tally.replayed
        click.echo(f"interrupted: {counted(tally.replayed, 'message')} replayed, {left} left on the desk")
        sys.exit(EXIT_INTERRUPTED)
    _say_stays(tally)
    click.echo(f"{counted(tally.replayed, 'message')} replayed" if tally.replayed else nothing(there, "replayed"))
    sys.exit(EXIT_FAILURE if tally.stayed else 0)


def _say_stays(tally: Tally, word: str = "left") -> None:
    for queue, reasons in tally.stays.items():
        for why, stay in reasons.items():
            more = ", …" if stay.count > len(stay.examples) else ""
            names = ", ".join(one_line(one) for one in stay.examples)
            warn(f"{word} in {queue}, {counted(stay.count, 'message')}: {why} ({names}{more})")


def _foretell(there: Opened, judge: Judge, tally: Tally) -> None:
    named: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()

    def each(letter: Letter, _: str | None) -> None:
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
    click.echo("nothing was changed" if counts else nothing(there, "would be replayed"))
