"""What the commands have in common that show what audit wrote down."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from runner.config.keeping import Keeping, found_in, read_quickly
from runner.errors import RunnerError
from runner.escape import one_line
from runner.history.reader import reading
from runner.history.records import MOST_ALIKE, Read, orders_like
from runner.invocation import invocation

OFF = """\
audit is off, so that nothing is known of orders here; these lines turn it on at the next start:
# topology.yaml, under queues:
  audit.events: {bind: {orders.topic: ["#"], payments.topic: ["#"]}, retry: [1s, 5s, 30s]}
# config.yaml
trace: audit.events
# config.yaml, under services:
  audit: {consumes: [audit.events]}"""
UNTRACED = "only events are known here, no tries: add the line trace: audit.events to config.yaml, and start again"


def read_keeping(folder: Path) -> Keeping:
    """What ``config.yaml`` says of the database. Raises ConfigError with every fault of the project."""
    return read_quickly(folder) or _thoroughly(folder)


def _thoroughly(folder: Path) -> Keeping:
    # Imported only now, because it takes longer than all the rest of the command.
    from runner.config.project import load_project

    config = load_project(folder).config
    services = {name: {"plugin": one.plugin} for name, one in config.services.items()}
    return found_in(config.store.url, services, config.trace)


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Read, Keeping]]:
    """The project's database. Raises RunnerError where it holds nothing yet, with what to do about it."""
    keeping = read_keeping(folder)
    with reading(keeping.url, folder) as read:
        if read is None:
            started = f"nothing was written down yet; audit does so while the runner runs: {invocation()}"
            raise RunnerError(started if keeping.is_audited else OFF)
        yield read, keeping


def order_named(read: Read, keeping: Keeping, prefix: str) -> str:
    """The whole id of the order that begins with ``prefix``. Raises RunnerError for none and for several."""
    # What no id is made of is not asked for, because not every database takes it.
    found = orders_like(read, prefix) if prefix.isprintable() and prefix else []
    if not found and not keeping.is_audited:
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
