"""The ``top`` command, which shows the running system in the terminal as the pages of the dashboard do."""

from __future__ import annotations

import json
import shutil
import sys
from collections import deque
from pathlib import Path
from typing import Any

import click

from runner.cli.terminal import redrawn, terminal_width
from runner.dashboard.collector import MAX_TIMELINE, Collector
from runner.dashboard.frame_text import frame_text
from runner.errors import EXIT_OK, RunnerError

#: The number of the first frame with rates, which need two snapshots. While the broker has not reported its queues,
#: ``--once`` waits for later frames, up to the second number.
FIRST_WITH_RATES, LAST_TO_WAIT = 2, 4


@click.command(short_help="Show messages, services and queues live.")
@click.option("--once", is_flag=True, help="Print one frame, after a second, and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print each frame as one line of JSON.")
@click.pass_obj
def top(folder: Path, once: bool, as_json: bool) -> None:
    """Show the messages, services and queues of the running system, updated every second until Ctrl-C.

    Problems come first. Services, queues, the edges of the topology with the most messages, and the latest changes
    follow. All rates are averages of the last 5 seconds. MSG/S is the number of messages handled or events published
    per second. HANDLER is the average run time of an attempt. GROWTH is the number of ready messages by which a queue
    grows per second. If the terminal is too small for all lines, the lines with the least traffic are omitted.

    With --json, each line contains a frame, which is the data of the dashboard's pages. The timeline in a frame
    contains the entries since the previous frame.
    """
    collector = Collector(folder)
    timeline: deque[dict[str, Any]] = deque(maxlen=MAX_TIMELINE)
    try:
        for frame in collector.frames():
            timeline.extend(frame["timeline"])
            if once:
                if frame["live"] != "ok":
                    raise RunnerError(frame["live"])
                if not _is_complete(frame):
                    continue
                frame["timeline"] = list(timeline)
            if as_json:
                click.echo(json.dumps(frame, ensure_ascii=False))
            elif once:
                click.echo(frame_text(frame, timeline, terminal_width(), None))
            else:
                click.echo(_screen(frame, timeline))
            sys.stdout.flush()
            if once:
                return
    except KeyboardInterrupt:
        sys.exit(EXIT_OK)
    finally:
        collector.close()


def _is_complete(frame: dict[str, Any]) -> bool:
    """Return True if a frame has rates, and the counts of the queues unless the broker does not answer."""
    has_counts = any(one["ready"] is not None for one in frame["queues"].values()) or frame.get("broker_problem")
    return int(frame["n"]) >= (FIRST_WITH_RATES if has_counts or not frame["queues"] else LAST_TO_WAIT)


def _screen(frame: dict[str, Any], timeline: deque[dict[str, Any]]) -> str:
    width = terminal_width()
    # The cursor is on the line below the text.
    height = None if width is None else max(1, shutil.get_terminal_size().lines - 1)
    return redrawn(frame_text(frame, timeline, width, height))
