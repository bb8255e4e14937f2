"""The formats of log lines in every process: text for people, or one JSON object per line for machines.

A line may contain user input. Control characters are escaped, so that user input cannot imitate another log line.
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
#: The minimum time between two warnings, in seconds, so that a persistent problem does not fill the log.
REPEAT_INTERVAL = 10.0


class Repeated:
    """A warning that many messages can cause, logged at most every 10 s."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` returns monotonic seconds."""
        self._log, self._clock, self._next = log, clock, float("-inf")

    def warn(self, text: str) -> None:
        """Log the warning, unless this object logged a warning within the last 10 s."""
        now = self._clock()
        if now >= self._next:
            self._next = now + REPEAT_INTERVAL
            self._log.warning("%s", text)


def timestamp(seconds: float) -> str:
    """Convert seconds since the epoch to a UTC time in ISO 8601 format with milliseconds."""
    fraction, whole = math.modf(seconds)
    microseconds = round(fraction * 1_000_000)
    if microseconds == 1_000_000:
        whole, microseconds = whole + 1, 0
    return f"{_second(int(whole))}.{microseconds // 1000:03}+00:00"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def json_record(seconds: float, level: str, slot: str, message: str, **more: str) -> str:
    """Return a log record as a JSON object on one line. Control characters are escaped, even if JSON allows them."""
    text = f'{{"time": "{timestamp(seconds)}", "level": {_quoted(level)}, {_names(slot)}, "message": {_quoted(message)}'
    text += "".join([f", {_quoted(key)}: {_quoted(value)}" for key, value in more.items()]) + "}"
    return escaped_json(text)


@lru_cache(maxsize=1024)
def _names(slot: str) -> str:
    return f'"service": {_quoted(slot.partition(".")[0])}, "slot": {_quoted(slot)}'


def _lines(record: logging.LogRecord) -> list[str]:
    """Return the message of a log record, and the additional lines in ``extra["lines"]``."""
    return [record.getMessage(), *getattr(record, "lines", ())]


#: The control character that marks the time at the start of each line that a worker sends to the supervisor. A log
#: message cannot contain this character, because control characters are escaped.
TIME_MARK = "\x1e"
#: The mark, a time in seconds since the epoch with six decimal places, and a space.
_MARKED = re.compile(rb"\x1e([0-9]{10}\.[0-9]{6}) ")


def timed(seconds: float, text: str) -> str:
    """Add the time to the start of each line. The supervisor sorts the lines of several processes by time."""
    mark = f"{TIME_MARK}{seconds:017.6f} "
    return mark + text.replace("\n", f"\n{mark}")


def time_of(line: bytes) -> tuple[float, bytes] | None:
    """Return the time and the text of a line from ``timed``, or None for any other line.

    Text that a plugin prints can imitate a timed line. A time must therefore consist of digits, and the number of
    digits is limited, so that every time can be converted to a date.
    """
    found = _MARKED.match(line)
    return None if found is None else (float(found[1]), line[found.end() :])


class TextFormatter(logging.Formatter):
    """The text format, with the level before the message unless the level is INFO or DEBUG.

    A traceback follows on separate lines.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a log record as text."""
        level = "" if record.levelno in (logging.INFO, logging.DEBUG) else f"{record.levelname}: "
        text = "\n".join([level + escaped(line).replace("\n", "\\n") for line in _lines(record)])
        return text + ("\n" + escaped(_traceback(record)) if record.exc_info else "")


class JsonFormatter(logging.Formatter):
    """The JSON format, with time, level, service, slot, message and, if known, the order id and event type."""

    def __init__(self, slot: str) -> None:
        super().__init__()
        self._slot = slot

    def format(self, record: logging.LogRecord) -> str:
        """Return a log record as JSON."""
        more = {}
        for name in ("order", "event"):
            if value := getattr(record, name, None):
                more[name] = str(value)
        if record.exc_info:
            more["traceback"] = _traceback(record)
        level = record.levelname.lower()
        return "\n".join([json_record(record.created, level, self._slot, line, **more) for line in _lines(record)])


def _traceback(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return "" if error is None else traceback_of(error)


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an error without the framework's frames, which the author of a plugin does not need."""
    inner = error.__traceback__
    while inner is not None and _is_framework(inner.tb_frame.f_code.co_filename):
        inner = inner.tb_next
    return "".join(traceback.format_exception(type(error), error, inner or error.__traceback__)).rstrip()


def _is_framework(filename: str) -> bool:
    return filename.startswith(_OWN_FOLDER) or f"{os.sep}pluggy{os.sep}" in filename


class DescriptorHandler(logging.Handler):
    """A logging handler that writes each record to a file descriptor, and returns only when all bytes are written."""

    def __init__(self, descriptor: int, encoding: str, errors: str) -> None:
        super().__init__()
        self._descriptor, self._encoding, self._errors = descriptor, encoding, errors

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record if the filters accept the record.

        Unlike the base class, format the record before acquiring the lock.
        """
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
        except Exception:  # noqa: BLE001 - a logging error must not stop the caller
            self.handleError(record)


def _handler() -> logging.Handler:
    stream = sys.stderr
    try:
        return DescriptorHandler(stream.fileno(), stream.encoding, stream.errors or "strict")
    except OSError:  # standard error has no file descriptor, as in a test
        return logging.StreamHandler(stream)


def set_up(slot: str, log_format: str, log_level: str = "info") -> logging.Logger:
    """Write this process's log records at ``log_level`` and above to standard error, and return the service's logger.

    Libraries never log below INFO, because their debug lines would bury the service's own lines.
    """
    # Neither log format shows the source line, thread or process. Finding these values takes longer than writing the
    # record (Python: "logging", Optimization).
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
