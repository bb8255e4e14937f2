"""Dead letters as text, either a table of groups or one complete message."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import click

from runner import escape
from runner.cli.terminal import has_colour
from runner.deadletters.dead_letter import DeadLetter, text_of, without_id
from runner.deadletters.fingerprint import cause_of
from runner.deadletters.grouping import DeadLetterGroup
from runner.deadletters.json_record import plain
from runner.escape import json_text
from runner.headers import (
    ATTEMPT,
    CAUSATION,
    CRASHES,
    EXCEPTION,
    FIRST_ERROR,
    HOST,
    LAST_ERROR,
    PID,
    SERVICE,
    SIGNAL,
    TRACEBACK,
    seconds_of,
)
from runner.topology.plan import counted

#: The maximum number of groups in a table.
MOST_GROUPS = 50
#: The minimum terminal width for the FIRST column. On a narrower terminal, the error is more useful than this column.
NARROW = 110
#: The minimum width of the error on a terminal. A column in _OPTIONAL is omitted if less room would remain.
LEAST_ERROR = 20
_HEAD = (
    "QUEUE", "COUNT", "ATTEMPTS", "REPLAYS", "FIRST", "LAST", "LATEST ID", "FINGERPRINT", "RAISED AT", "ERROR",
)  # fmt: skip
#: The columns that a narrow terminal may omit, the most useful column first.
_OPTIONAL = ("FINGERPRINT", "RAISED AT", "LAST", "ATTEMPTS", "REPLAYS", "FIRST")
_NUMBERS = frozenset({"COUNT", "ATTEMPTS", "REPLAYS"})
_UNKNOWN = "(unknown)"


def one_line(value: object) -> str:
    """Return text from a sender as one line without control characters."""
    return escape.one_line(text_of(value))


def moment(seconds: float | None) -> str:
    """Return a local time, such as ``2026-11-25 19:03:39``, or ``-`` if ``seconds`` is None."""
    return "-" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def table(groups: Sequence[DeadLetterGroup], prefixes: Sequence[str]) -> list[str]:
    """Return a table with a line for each group.

    On a terminal, columns that do not fit are omitted, and long lines are truncated.
    """
    shown = groups[:MOST_GROUPS]
    rows = [_HEAD, *(_row(group, prefix) for group, prefix in zip(shown, prefixes, strict=False))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD) - 1)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    columns = _columns(widths, room)
    lines = []
    for number, row in enumerate(rows):
        cells = [row[at].rjust(widths[at]) if _HEAD[at] in _NUMBERS else row[at].ljust(widths[at]) for at in columns]
        line = "  ".join([*cells, row[-1]])
        line = line if room is None else cut(line, room)
        lines.append(click.style(line, bold=True) if number == 0 and has_colour() else line)
    if len(groups) > len(shown):
        more = f"and {len(groups) - len(shown)} more groups"
        lines.append(f"{more}; use --json to list all groups, or --queue to select one queue")
    return lines


def _columns(widths: Sequence[int], room: int | None) -> list[int]:
    """Return the indexes of the columns that are shown before the error."""
    if room is None:
        return list(range(len(widths)))
    columns = [at for at in range(len(widths)) if _HEAD[at] not in _OPTIONAL]
    for name in _OPTIONAL:
        more = [*columns, _HEAD.index(name)]
        if room - sum(widths[at] + 2 for at in more) >= LEAST_ERROR and (name != "FIRST" or room >= NARROW):
            columns = more
    return sorted(columns)


def _row(group: DeadLetterGroup, prefix: str) -> tuple[str, ...]:
    origin = group.origin or f"{group.queue} {_UNKNOWN}"
    return (
        one_line(origin), str(group.count), span(group.attempts), span(group.replays), moment(group.first),
        moment(group.last), one_line(prefix), group.cause.fingerprint, one_line(group.cause.frame or "-"),
        one_line(group.title),
    )  # fmt: skip


def span(numbers: tuple[int, int] | None) -> str:
    """Return two numbers as text, such as ``4-8``, or as ``4`` if the numbers are equal. Return ``-`` for None."""
    if numbers is None:
        return "-"
    least, most = numbers
    return str(least) if least == most else f"{least}-{most}"


def cut(text: str, width: int) -> str:
    """Truncate a text to at most ``width`` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def brief(message: DeadLetter) -> str:
    """Return a message as one line, truncated to the width of the terminal."""
    words = "  ".join(one_line(part) for part in (message.id, message.type, message.error_without_id) if part)
    return cut(f"  {words}", shutil.get_terminal_size().columns) if sys.stdout.isatty() else f"  {words}"


def whole(message: DeadLetter, origin: str | None) -> Iterator[str]:
    """Yield the lines of a complete description of a dead letter."""
    return described(message, facts_of(message, origin))


def described(message: DeadLetter, facts: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Yield the lines of a message's description: the facts with a value, the headers and the body."""
    headers = message.headers
    for label, value in facts:
        if value not in (None, "", "-"):
            name = click.style(f"{label:<15}", bold=True) if has_colour() else f"{label:<15}"
            colour = "red" if label == "error" and has_colour() else None
            yield f"{name} {click.style(one_line(value), fg=colour) if colour else one_line(value)}"
    yield from _block("headers", header_lines(headers))
    if TRACEBACK in headers:
        yield from _block("traceback", text_of(headers[TRACEBACK]).rstrip().splitlines())
    kind = text_of(message.properties.get("content_type")) or "without a content type"
    yield from _block(f"body ({one_line(kind)}, {counted(len(message.body), 'byte')})", body_lines(message.body))


def facts_of(message: DeadLetter, origin: str | None) -> list[tuple[str, Any]]:
    """Return the labels and values that describe a dead letter. A value may be None, empty, or ``-``."""
    headers, properties = message.headers, message.properties
    exchange, key = message.published
    published = None if key is None else f"{exchange or 'the default exchange'} with key {key!r}"
    service = " ".join(
        f"{word}{text_of(headers[name])}"
        for name, word in ((SERVICE, ""), (HOST, "on "), (PID, "with pid "))
        if name in headers
    )
    replays = None
    if message.replays:
        replays = f"{message.replays}, the last at {moment(seconds_of(message.replayed_at))}"
    cause = cause_of(message, origin)
    own_error = headers.get(LAST_ERROR) if message.is_dead_lettered_by_broker else None
    return [
        ("id", message.id),
        ("type", message.type),
        ("correlation id", message.correlation_id),
        ("causation id", headers.get(CAUSATION)),
        ("queue", message.queue),
        ("failed in", origin or _UNKNOWN),
        ("published to", published),
        ("published by", properties.get("app_id")),
        ("published at", moment(seconds_of(properties.get("timestamp")))),
        ("dead-lettered", moment(message.dead_lettered_at)),
        ("attempts", message.trusted_headers.get(ATTEMPT)),
        ("replays", replays),
        ("error", message.error_without_id),
        ("previous error", own_error),
        ("first error", without_id(text_of(headers.get(FIRST_ERROR)), message.id)),
        ("exception", headers.get(EXCEPTION)),
        ("raised at", cause.frame),
        ("fingerprint", cause.fingerprint),
        ("service", service),
        ("crashes", headers.get(CRASHES)),
        ("signal", headers.get(SIGNAL)),
        *rare_properties(message),
    ]


def rare_properties(message: DeadLetter) -> Iterator[tuple[str, Any]]:
    """Yield the labels and values of rarely used properties."""
    for name in ("content_encoding", "priority", "reply_to", "expiration", "user_id", "cluster_id"):
        yield name.replace("_", " "), message.properties.get(name)


def header_lines(headers: Any) -> Iterator[str]:
    """Yield a line for each header, except the traceback."""
    for name, value in sorted(headers.items(), key=lambda one: text_of(one[0])):
        if name != TRACEBACK:
            said = plain(value)
            yield one_line(f"{text_of(name)}: {said if isinstance(said, str) else json_text(said)}")


def _block(title: str, lines: Iterable[str]) -> Iterator[str]:
    held = [f"  {escape.escaped(line)}" for line in lines]
    if held:
        yield click.style(title, bold=True) if has_colour() else title
        yield from held


def body_lines(body: bytes) -> list[str]:
    """Return a body as indented JSON, as text, or as hexadecimal digits."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return [*(body[at : at + 16].hex(" ") for at in range(0, len(body), 16))]
    try:
        value = json.loads(text, parse_float=_Token, parse_int=_Token, object_pairs_hook=_Pairs)
        return list(_pretty(value))
    except (ValueError, RecursionError):
        return [one_line(line) for line in text.split("\n")]


class _Token(str):
    """A number exactly as written in the body."""


class _Pairs(list[tuple[str, Any]]):
    """A JSON object that keeps duplicate names."""


def _pretty(value: Any, indent: str = "", before: str = "", after: str = "") -> Iterator[str]:
    if isinstance(value, _Pairs | list) and value:
        first, last = "{}" if isinstance(value, _Pairs) else "[]"
        yield f"{indent}{before}{first}"
        for number, one in enumerate(value):
            name, inner = (f"{json_text(one[0])}: ", one[1]) if isinstance(value, _Pairs) else ("", one)
            yield from _pretty(inner, f"{indent}  ", name, "" if number == len(value) - 1 else ",")
        yield f"{indent}{last}{after}"
    else:
        empty = "{}" if isinstance(value, _Pairs) else None
        yield f"{indent}{before}{empty or (value if isinstance(value, _Token) else json_text(value))}{after}"
