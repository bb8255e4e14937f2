"""Access to the event history for the ``events``, ``order`` and ``ledger`` commands."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config.database_address import read_quickly
from runner.errors import RunnerError
from runner.escape import one_line
from runner.history.reader import reading
from runner.history.records import MOST_MATCHES, Read, orders_like
from runner.invocation import invocation

if TYPE_CHECKING:
    from runner.config.project import Project

OFF = """\
audit is off, so no orders are recorded; add these lines to turn audit on at the next start:
# topology.yaml, under queues:
  audit.events: {bind: {orders.topic: ["#"], payments.topic: ["#"]}, retry: [1s, 5s, 30s]}
# config.yaml, under services:
  audit: {consumes: [audit.events]}"""
UNTRACED = (
    "only events are recorded, not attempts; to record attempts, add a service such as audit without the option"
    " 'attempts: false', and restart"
)
#: The minimum length of an order id in a table. If two ids share a prefix of this length, more characters are shown.
SHORTEST = 8


class HistoryOff(RunnerError):
    """The error if no service records events."""


class NothingRecorded(RunnerError):
    """The error if a service records events, but the database does not exist yet."""


class Recorded:
    """The settings of the event history in config.yaml and in plugins, which are loaded on first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def project(self) -> Project:
        """The project with the contracts of the services that record messages. Raises ConfigError with all errors."""
        # Imported here, because this import takes longer than the rest of the command.
        from runner.config.project import load_project
        from runner.inspection.checked_project import with_recorders

        return with_recorders(load_project(self.folder))

    @property
    def has_events(self) -> bool:
        """True if a service records events."""
        return bool(self.project.recorders("events"))

    @property
    def has_attempts(self) -> bool:
        """True if a service records attempts."""
        return self.project.attempts_queue is not None


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Read, Recorded]]:
    """Open the database of the event history. Raises RunnerError, with advice, if the database is empty."""
    recorded = Recorded(folder)
    with _reading([read_quickly(folder) or recorded.project.history_store], recorded) as read:
        yield read, recorded


@contextmanager
def opened_stores(folder: Path) -> Iterator[tuple[Read, Recorded]]:
    """Open the databases of all services as a single source. Raises RunnerError if all databases are empty."""
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
            empty = f"no events are recorded yet; to record events, start the supervisor: {invocation()}"
            raise NothingRecorded(empty) if recorded.has_events else HistoryOff(OFF)
        yield lambda sql, parameters: [row for read in reads for row in read(sql, parameters)]


@contextmanager
def opened_project(project: Project) -> Iterator[Read]:
    """Open the event history of a project whose plugins are checked. Raises HistoryOff and NothingRecorded."""
    recorded = Recorded(project.folder)
    recorded.project = project
    with _reading([project.history_store], recorded) as read:
        yield read


def order_named(read: Read, recorded: Recorded, prefix: str) -> str:
    """Return the full id of the order with the given prefix. Raises RunnerError unless exactly one order matches."""
    # Order ids contain only printable characters, and some databases reject other characters.
    found = orders_like(read, prefix) if prefix.isprintable() and prefix else []
    if not found and not recorded.has_events:
        raise HistoryOff(OFF)
    if not found:
        raise RunnerError(f"unknown order {one_line(prefix)!r}; to list the orders: {invocation('events')}")
    if len(found) > 1:
        some = ", ".join(one_line(one) for one in found[:MOST_MATCHES])
        more = " and more" if len(found) > MOST_MATCHES else ""
        raise RunnerError(f"order id {prefix!r} is ambiguous; several orders match: {some}{more}")
    return found[0]


def width_of(text: str) -> int:
    """Return the number of terminal columns that ``text`` occupies."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else not unicodedata.combining(one) for one in text)


def clock(milliseconds: int, form: str = "%H:%M:%S") -> str:
    """Format a time in milliseconds since the epoch as local time.

    A time outside the calendar is returned as a number.
    """
    try:
        return f"{datetime.fromtimestamp(milliseconds // 1000).strftime(form)}.{milliseconds % 1000:03}"
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)


def clock_form(times: Iterable[int]) -> str:
    """Return the form for ``clock`` that shows these times in a table. The form omits the date if all are of today."""
    today = str(datetime.now().date())
    is_today = all(clock(one, "%Y-%m-%d")[:10] == today for one in times)
    return "%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S"


def prefix_length(orders: Collection[str]) -> int:
    """Return the shortest prefix length that distinguishes all order ids, at least ``SHORTEST``."""
    longest = max((len(one) for one in orders), default=SHORTEST)
    return next((n for n in range(SHORTEST, longest) if len({one[:n] for one in orders}) == len(set(orders))), longest)
