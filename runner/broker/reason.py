"""The reason for a private node's exit, read from the node's logs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby, takewhile
from pathlib import Path

from runner.broker.folder import Folder

_TAIL_BYTES = 128 * 1024
_LINES = 12
_ERRORS = 3
#: A line of the node's log. All lines of an event have the same timestamp and the same Erlang process.
_STAMPED = re.compile(r"(?P<event>\S+ \S+ \[(?P<level>\w+)\] <[\d.]+>) ?(?P<text>.*)")
_SEVERE = ("error", "critical", "alert", "emergency")
#: The lines after the reason, which contain Erlang's error report and the process state.
_REPORT = re.compile(r"\s*(crasher:|supervisor:|Kernel pid|Crash dump|\{\"Kernel pid)")
_CONFIGURATION = re.compile(r"failed_to_\w+_configuration|cannot_read_enabled_plugins_file")
_FRAME = re.compile(r"[\s=*-]*")


def node_log_size(folder: Folder) -> int:
    """Return the size of the node's log in bytes, which is the offset of the first line of the next run."""
    try:
        return folder.node_log.stat().st_size
    except OSError:
        return 0


def explain(folder: Folder, offset: int) -> list[str]:
    """Return the log lines that contain the reason, or the last log lines if no reason is found.

    ``offset`` is the size of the log in bytes before the run.
    """
    lines = [*_tail(folder.node_log, offset), *_tail(folder.console_log, 0)]
    plain = [_plain(line) for line in lines]
    failed = next((index for index, line in enumerate(plain) if "BOOT FAILED" in line), len(lines))
    found = list(_errors(lines[:failed]))[-_ERRORS:]
    found += takewhile(lambda line: not _REPORT.match(line), plain[failed + 1 :])
    found = [line.strip() for line in found if not _FRAME.fullmatch(line)]
    if not found:
        found = [line.strip() for line in plain if not _FRAME.fullmatch(line)][-_LINES:]
    return found[:_LINES]


def last_line(folder: Folder) -> str:
    """Return the last line of the node's log."""
    lines = [_plain(line).strip() for line in _tail(folder.node_log, 0)]
    return next(filter(None, reversed(lines)), "none")


def is_configuration_error(lines: list[str]) -> bool:
    """Return True if the lines show a configuration error, which the user must fix."""
    return any(_CONFIGURATION.search(line) for line in lines)


def _plain(line: str) -> str:
    match = _STAMPED.match(line)
    return match["text"] if match else line


def _errors(lines: list[str]) -> Iterator[str]:
    """Yield the first lines of each error as one string."""
    matches = [match for match in map(_STAMPED.match, lines) if match and match["level"] in _SEVERE]
    for _, event in groupby(matches, key=lambda match: match["event"]):
        texts = [match["text"].strip() for match in event if not _FRAME.fullmatch(match["text"])]
        if texts and not _REPORT.match(texts[0]):
            yield " ".join(texts[:3])


def _tail(path: Path, offset: int) -> list[str]:
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            # A log that was rotated may be shorter than the offset.
            stream.seek(max(offset if offset <= size else 0, size - _TAIL_BYTES))
            return stream.read(_TAIL_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []
