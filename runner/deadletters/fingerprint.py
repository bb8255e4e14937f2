"""The fingerprint of a dead letter, which is equal for messages that failed in the same queue for the same cause."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import PurePath

from runner.deadletters.dead_letter import DeadLetter, text_of
from runner.headers import CRASHES, EXCEPTION, TRACEBACK
from runner.plugins import ENTRY_POINTS, FOLDER

#: The number of hexadecimal digits of a fingerprint.
LENGTH = 8
#: The package of the shipped plugins. All other modules of ``runner`` belong to the framework.
_SHIPPED = "runner/shipped_plugins"
#: Folders of installed packages, in which a folder named ``plugins`` is not a project's.
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_TIMES = re.compile(r"\b(?:once|twice|[0-9]+ times)\b")
#: The first line of a traceback, and a line with a frame, as Python's module ``traceback`` writes them. The lines of an
#: exception group begin with a margin.
_MARGIN = re.compile(r"^ *[|+] ")
_START = "Traceback (most recent call last):"
_FRAME = re.compile(r'^  File "(.+)", line ([0-9]+), in (.+)$')
#: The cause of a dead letter without a handler error, by the broker's reason for dead-lettering the message.
_UNHANDLED = {
    "delivery_limit": "workers stopped before they acknowledged the message",
    "expired": "no service handled the message in time",
    "maxlen": "the queue had no room for the message",
    "rejected": "a consumer rejected the message and gave no reason",
}


@dataclass(frozen=True, slots=True)
class PluginFrame:
    """A line of a plugin's code in a traceback."""

    #: The path, which begins with ``plugins/`` or with the name of an installed package.
    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@dataclass(frozen=True, slots=True)
class Cause:
    """The cause of a dead letter, by which dead letters are grouped."""

    #: LENGTH hexadecimal digits.
    fingerprint: str
    #: The name of the exception's class, or an empty string if no handler raised an exception.
    exception: str
    #: The innermost frame of the plugin, or None if the traceback contains no frame of a plugin.
    frame: PluginFrame | None
    #: The frame as text, or a description if there is no frame.
    place: str


def kind_of(error: str) -> str:
    """Return an error text without its UUIDs and numbers, which differ between messages."""
    return _NUMBER.sub("N", _UUID.sub("…", error))


def cause_of(message: DeadLetter, origin: str | None) -> Cause:
    """Return the cause of a dead letter that failed in ``origin``.

    The fingerprint is a hash of the queue, the exception and the plugin's innermost frame. If there is no frame, the
    kind of the error replaces the frame.
    """
    exception, frame, place, detail = _described(message)
    parts = (message.queue, origin or "", exception, detail)
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()
    return Cause(digest[:LENGTH], exception, frame, place)


def _described(message: DeadLetter) -> tuple[str, PluginFrame | None, str, str]:
    """Return the exception, the frame and the place of a cause, and the detail that distinguishes the cause."""
    if message.is_dead_lettered_by_broker:
        reason = message.broker_reason
        return "", None, _UNHANDLED.get(reason, "the broker dead-lettered the message"), f"broker {reason}"
    headers = message.headers
    exception = text_of(headers.get(EXCEPTION))
    if not exception:
        return "", None, "another program published the message to this queue", kind_of(message.error)
    if CRASHES in headers:
        # The number of crashes depends on chance, but the signal or the exit status is part of the cause.
        return exception, None, "the worker process died, so there is no traceback", _TIMES.sub("", message.error)
    if TRACEBACK not in headers:
        return exception, None, "no traceback in the headers", kind_of(message.error)
    frame = _plugin_frame(text_of(headers[TRACEBACK]))
    if frame is None:
        return exception, None, "raised outside the plugin", kind_of(message.error)
    return exception, frame, str(frame), str(frame)


@functools.lru_cache(maxsize=64)
def _plugin_frame(text: str) -> PluginFrame | None:
    """Return the innermost plugin frame of the last traceback in a text, or else of an earlier traceback."""
    found = None
    for path, line, function in _frames(text):
        file = _file_of_plugin(path)
        if file is not None:
            found = PluginFrame(file, int(line), function)
    return found


def _frames(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield the path, the line and the function of each frame.

    A line of an error text is not a frame, even if the line looks like a frame. The start of a long traceback is cut
    off, so a text may begin within a traceback, and with a part of a line.
    """
    is_inside = True
    for number, raw in enumerate(text.splitlines()):
        line = _MARGIN.sub("", raw)
        if line.endswith(_START):
            is_inside = True
        elif line and not line.startswith("  "):
            is_inside = is_inside and number == 0
        elif is_inside and (frame := _FRAME.match(line)) is not None:
            yield frame[1], frame[2], frame[3]


def _file_of_plugin(path: str) -> str | None:
    """Return the path of a plugin's file, relative to the project or the installed package, or None for other files.

    The path may come from another machine, so the project's own folder is irrelevant.
    """
    parts = PurePath(path).parts
    if FOLDER in parts[:-1] and _INSTALLED.isdisjoint(parts):
        start = len(parts) - 1 - parts[::-1].index(FOLDER, 1)
        return "/".join(parts[start:])
    for package in _packages():
        before, _, after = path.rpartition(f"/{package}")
        if before and after[:1] in ("/", "."):
            return f"{package}{after}"
    return None


@functools.cache
def _packages() -> tuple[str, ...]:
    """Return the installed packages that contain plugins, as paths."""
    roots = {entry.module.partition(".")[0] for entry in metadata.entry_points(group=ENTRY_POINTS)}
    return tuple(sorted(_SHIPPED if one == "runner" else one for one in roots))
