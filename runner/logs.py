"""How log lines look, in every process: text for people, or one JSON object a line for machines.

What users sent may stand in a line, so control characters are escaped: no line can pose as another.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

_OWN_FOLDER = os.path.dirname(__file__) + os.sep
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def escaped(text: str, keep: str = "\t") -> str:
    """Write control characters as their escapes, such as ``x1b`` behind a backslash; those in ``keep`` stay."""
    return _CONTROL.sub(
        lambda match: match[0] if match[0] in keep else match[0].encode("unicode_escape").decode(), text
    )


def json_line(data: dict[str, Any]) -> str:
    """Write ``data`` as JSON on one line; also the control characters that JSON itself allows are escaped."""
    text = json.dumps(data, ensure_ascii=False)
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class TextFormatter(logging.Formatter):
    """The message, with its level where that is not INFO; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname}: "
        text = level + escaped(record.getMessage()).replace("\n", "\\n")
        return text + ("\n" + escaped(_traceback(record)) if record.exc_info else "")


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, slot, message, and order where it is known."""

    def __init__(self, slot: str) -> None:
        super().__init__()
        self._slot = slot

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._slot.partition(".")[0],
            "slot": self._slot,
            "message": record.getMessage(),
        }
        if getattr(record, "order", None):
            line["order"] = str(record.__dict__["order"])
        if record.exc_info:
            line["traceback"] = _traceback(record)
        return json_line(line)


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


def set_up(slot: str, log_format: str) -> logging.Logger:
    """Send all log records of this process to standard error; returns the service's logger."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(slot) if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    return logging.getLogger(f"service.{slot.partition('.')[0]}")
