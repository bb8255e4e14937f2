"""How log lines look, in every process: text for people, or one JSON object a line for machines.

What users sent may stand in a line, so control characters are escaped: no line can pose as another.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

from runner.escape import escaped, escaped_json

_OWN_FOLDER = os.path.dirname(__file__) + os.sep
_quoted = json.JSONEncoder(ensure_ascii=False).encode
#: Seconds before a warning about the same trouble is repeated, or trouble that lasts would fill the log.
REPEAT_INTERVAL = 10.0


class Repeated:
    """A warning that many messages would cause; it is logged at most every 10 s."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` is in seconds, and never goes back."""
        self._log, self._clock, self._next = log, clock, float("-inf")

    def warn(self, text: str) -> None:
        """Log the warning, unless it was logged a moment ago."""
        now = self._clock()
        if now >= self._next:
            self._next = now + REPEAT_INTERVAL
            self._log.warning("%s", text)


def timestamp(seconds: float) -> str:
    """Seconds since the epoch in ISO 8601, to the millisecond, in UTC."""
    fraction, whole = math.modf(seconds)
    microseconds = round(fraction * 1_000_000)
    if microseconds == 1_000_000:
        whole, microseconds = whole + 1, 0
    return f"{_second(int(whole))}.{microseconds // 1000:03}+00:00"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def json_record(seconds: float, level: str, slot: str, message: str, **more: str) -> str:
    """One record as a JSON object on one line; also the control characters that JSON itself allows are escaped."""
    text = f'{{"time": "{timestamp(seconds)}", "level": {_quoted(level)}, {_names(slot)}, "message": {_quoted(message)}'
    text += "".join([f", {_quoted(key)}: {_quoted(value)}" for key, value in more.items()]) + "}"
    return escaped_json(text)


@lru_cache(maxsize=1024)
def _names(slot: str) -> str:
    return f'"service": {_quoted(slot.partition(".")[0])}, "slot": {_quoted(slot)}'


def _lines(record: logging.LogRecord) -> list[str]:
    """The message, and what follows it on lines of their own: the list ``lines`` in ``extra``, written at once."""
    return [record.getMessage(), *getattr(record, "lines", ())]


#: Stands before the time of a line, in seconds since the epoch, on its way from a worker to the supervisor. What users
#: or plugins write has no such character, because it is escaped.
TIME_MARK = "\x1e"
#: The mark, ten digits, a point, six digits and a space.
_MARKED = re.compile(rb"\x1e([0-9]{10}\.[0-9]{6}) ")


def timed(seconds: float, text: str) -> str:
    """Put the time before each line: the supervisor sorts lines of several processes by it."""
    mark = f"{TIME_MARK}{seconds:017.6f} "
    return mark + text.replace("\n", f"\n{mark}")


def time_of(line: bytes) -> tuple[float, bytes] | None:
    """Return the time and the text of a line that ``timed`` made; None for any other line.

    A plugin may print what a sender wrote. So only digits are a time, and the largest one is a date too.
    """
    found = _MARKED.match(line)
    return None if found is None else (float(found[1]), line[found.end() :])


class TextFormatter(logging.Formatter):
    """The message, with its level where that is not INFO; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        level = "" if record.levelno in (logging.INFO, logging.DEBUG) else f"{record.levelname}: "
        text = "\n".join([level + escaped(line).replace("\n", "\\n") for line in _lines(record)])
        return text + ("\n" + escaped(_traceback(record)) if record.exc_info else "")


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, slot, message, and order where it is known."""

    def __init__(self, slot: str) -> None:
        super().__init__()
        self._slot = slot

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        more = {}
        if order := getattr(record, "order", None):
            more["order"] = str(order)
        if record.exc_info:
            more["traceback"] = _traceback(record)
        level = record.levelname.lower()
        return "\n".join([json_record(record.created, level, self._slot, line, **more) for line in _lines(record)])


def _traceback(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return "" if error is None else traceback_of(error)


def traceback_of(error: BaseException) -> str:
    """The traceback, without the frames that lead from this program into a plugin: its author looks for his own."""
    inner = error.__traceback__
    while inner is not None and _is_framework(inner.tb_frame.f_code.co_filename):
        inner = inner.tb_next
    return "".join(traceback.format_exception(type(error), error, inner or error.__traceback__)).rstrip()


def _is_framework(filename: str) -> bool:
    return filename.startswith(_OWN_FOLDER) or f"{os.sep}pluggy{os.sep}" in filename


class DescriptorHandler(logging.Handler):
    """Writes each record to a descriptor, whole and at once, before it returns."""

    def __init__(self, descriptor: int, encoding: str, errors: str) -> None:
        super().__init__()
        self._descriptor, self._encoding, self._errors = descriptor, encoding, errors

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record that the filters let through; the base class would hold the lock while it is put in form."""
        if is_wanted := bool(self.filter(record)):
            self.emit(record)
        return is_wanted

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            data = (timed(record.created, self.format(record)) + "\n").encode(self._encoding, self._errors)
            self.acquire()
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            finally:
                self.release()
        except Exception:  # noqa: BLE001 - a record that cannot be written must not end what was at work
            self.handleError(record)


def _handler() -> logging.Handler:
    stream = sys.stderr
    try:
        return DescriptorHandler(stream.fileno(), stream.encoding, stream.errors or "strict")
    except OSError:  # it is no file, as under a test
        return logging.StreamHandler(stream)


def set_up(slot: str, log_format: str, log_level: str = "info") -> logging.Logger:
    """Send the log records of this process from ``log_level`` on to standard error; returns the service's logger.

    Libraries never log below INFO, since their details would hide a message's way.
    """
    # Neither form shows where in the code, on which thread or in which process a record was made, which costs more to
    # find out than to write the record (Python: "logging", Optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    handler = _handler()
    handler.setFormatter(JsonFormatter(slot) if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = getattr(logging, log_level.upper())
    root.setLevel(max(level, logging.INFO))
    for name in ("runner", "service"):
        logging.getLogger(name).setLevel(level)
    return logging.getLogger(f"service.{slot.partition('.')[0]}")
