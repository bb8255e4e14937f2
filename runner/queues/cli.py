"""``queues``: the messages, consumers and rates of each queue."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click

from runner.admin.management import Management
from runner.admin.queue_counts import QueueCounts, look, watch
from runner.cli.temporary_broker import broker_for
from runner.cli.terminal import redrawn
from runner.config.error_detail import one_of
from runner.config.project import Project, load_project
from runner.errors import BrokerError
from runner.escape import json_text
from runner.queues.listing import as_object, table
from runner.queues.overview import Overview, names_of

#: Seconds between two samples with --watch.
INTERVAL = 1.0


@click.command(short_help="Show the messages, consumers and rates of every queue.")
@click.argument("names", metavar="[QUEUE]...", nargs=-1)
@click.option("--watch", "is_watching", is_flag=True, help="Refresh the table each second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def queues(folder: Path, names: tuple[str, ...], is_watching: bool, as_json: bool) -> None:
    """Show the queues of topology.yaml, or the named queues, one a line. Nothing is consumed.

    RETRY is the number of messages that wait for their next attempt, and DEAD the number of dead letters. OLDEST is how
    long the oldest ready message has waited. NOTE marks a queue that grows, and a queue with messages and no consumer.

    READY, CONSUMERS, RETRY and DEAD are exact. The other numbers are statistics of RabbitMQ's HTTP API, some seconds
    old. "?" is an unknown number. With --watch, --json prints one object a line.
    """
    project = load_project(folder)
    unknown = [one for one in names if one not in names_of(project)]
    if unknown:
        text = f"unknown queue {unknown[0]!r}; {one_of(unknown[0], names_of(project))}"
        raise click.BadParameter(text, param_hint="QUEUE")
    with broker_for(project) as management_url:
        if not is_watching:
            reasons: dict[str, str] = {}
            url, overview = _overview(project, names, management_url)
            counts = look([url], overview.queues, reasons)[1] if overview.queues else {}
            _show(overview, counts, reasons, as_json=as_json)
            return
        while True:
            try:
                url, overview = _overview(project, names, management_url)
                watch(url, overview.queues, INTERVAL, _Screen(overview, as_json=as_json))
            except BrokerError as error:
                click.echo(json_text({"error": str(error)}) if as_json else redrawn(str(error)))
            sys.stdout.flush()
            time.sleep(INTERVAL)


def _overview(project: Project, names: tuple[str, ...], management_url: str | None) -> tuple[str, Overview]:
    """Return the address of the broker that answers, and the queues to show. Raises BrokerAway, and BrokerRefused."""
    url = look(project.config.broker.url, [])[0]
    management = Management(url, project.config.broker.management or management_url)
    return url, Overview(project, management, names)


class _Screen:
    """A function that shows the queues each time that it gets new counts."""

    def __init__(self, overview: Overview, *, as_json: bool) -> None:
        self._overview, self._as_json = overview, as_json

    def __call__(self, counts: Mapping[str, QueueCounts | None], unknown: Mapping[str, str]) -> None:
        _show(self._overview, counts, unknown, as_json=self._as_json, is_watching=True)
        sys.stdout.flush()


def _show(
    overview: Overview,
    counts: Mapping[str, QueueCounts | None],
    unknown: Mapping[str, str],
    *,
    as_json: bool,
    is_watching: bool = False,
) -> None:
    entries = overview.update(counts, unknown)
    if as_json:
        found = as_object(entries, overview.others, overview.problem)
        click.echo(json_text(found, indent=None if is_watching else 2))
    else:
        text = "\n".join(table(entries, overview.others, overview.problem))
        click.echo(redrawn(text) if is_watching else text)
