"""What the commands have in common that show what audit wrote down."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config.database_address import read_quickly
from runner.errors import RunnerError
from runner.escape import one_line
from runner.history.reader import reading
from runner.history.records import MOST_ALIKE, Read, orders_like
from runner.invocation import invocation

if TYPE_CHECKING:
    from runner.config.project import Project

OFF = """\
audit is off, so that nothing is known of orders here; these lines turn it on at the next start:
# topology.yaml, under queues:
  audit.events: {bind: {orders.topic: ["#"], payments.topic: ["#"]}, retry: [1s, 5s, 30s]}
# config.yaml, under services:
  audit: {consumes: [audit.events]}"""
UNTRACED = (
    "only events are known here, no attempts: let a service record them, such as audit without options:"
    " {attempts: false}, and start again"
)


class Recorded:
    """What config.yaml and the plugins say of the event history, found out at the first question."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def project(self) -> Project:
        """The project, with the terms of the services that record. Raises ConfigError with every error."""
        # Imported only now, because it takes longer than all the rest of a command.
        from runner.config.project import load_project
        from runner.inspection.checked_project import with_recorders

        return with_recorders(load_project(self.folder))

    @property
    def has_events(self) -> bool:
        """Whether a service records events."""
        return bool(self.project.recorders("events"))

    @property
    def has_attempts(self) -> bool:
        """Whether a service records attempts."""
        return self.project.attempts_queue is not None


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Read, Recorded]]:
    """The database with the event history. Raises RunnerError if it holds nothing yet, with what to do about it."""
    recorded = Recorded(folder)
    with _reading([read_quickly(folder) or recorded.project.history_store], recorded) as read:
        yield read, recorded


@contextmanager
def opened_stores(folder: Path) -> Iterator[tuple[Read, Recorded]]:
    """The databases of all services, read as one. Raises RunnerError if they hold nothing yet."""
    recorded = Recorded(folder)
    project = recorded.project
    urls = dict.fromkeys([project.history_store, *map(project.store_of, project.config.services)])
    with _reading(urls, recorded) as read:
        yield read, recorded


@contextmanager
def _reading(urls: Iterable[str], recorded: Recorded) -> Iterator[Read]:
    with ExitStack() as stack:
        found = [stack.enter_context(reading(url, recorded.folder)) for url in urls]
        reads = [one for one in found if one is not None]
        if not reads:
            started = f"nothing was written down yet; audit does so while the runner runs: {invocation()}"
            raise RunnerError(started if recorded.has_events else OFF)
        yield lambda sql, parameters: [row for read in reads for row in read(sql, parameters)]


def order_named(read: Read, recorded: Recorded, prefix: str) -> str:
    """The whole id of the order that begins with ``prefix``. Raises RunnerError for none and for several."""
    # What no id is made of is not asked for, because not every database takes it.
    found = orders_like(read, prefix) if prefix.isprintable() and prefix else []
    if not found and not recorded.has_events:
        raise RunnerError(OFF)
    if not found:
        raise RunnerError(f"no such order here, {one_line(prefix)!r}; see: {invocation('events')}")
    if len(found) > 1:
        some = ", ".join(one_line(one) for one in found[:MOST_ALIKE])
        more = " and more" if len(found) > MOST_ALIKE else ""
        raise RunnerError(f"several orders begin with {prefix!r}: {some}{more}; give more of the id")
    return found[0]


def width_of(text: str) -> int:
    """How many columns a terminal needs for it."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else not unicodedata.combining(one) for one in text)


def clock(milliseconds: int, form: str = "%H:%M:%S") -> str:
    """A time in the machine's own zone, to the millisecond; one that no calendar has as the number it is."""
    try:
        return f"{datetime.fromtimestamp(milliseconds // 1000).strftime(form)}.{milliseconds % 1000:03}"
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
