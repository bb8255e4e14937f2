"""The terminal that a command runs in: warnings, progress, Ctrl-C, and the last guard before the output.

Commands escape what others wrote where they know it (``runner.escape``). Whatever reaches the terminal unescaped all
the same, through an error or a file's name, is escaped here, so that no command can forget to.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from runner.escape import escaped_json

#: Colours (ECMA-48, SGR), which only this program is to set, and which others' text does not reach the terminal with.
_COLOUR = re.compile(r"(\x1b\[[0-9;]{0,12}m)")
#: What commands begin or end a line with that is written again and again.
_BEGIN, _END = ("\r\x1b[K", "\r", "\x1b[H\x1b[J"), ("\x1b[K",)


class Guarded:
    """A stream for people that escapes what a terminal would obey, except for what this program itself writes."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        # Who writes bytes would go around this.
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write the text; one that the stream's encoding lacks as an escape."""
        shown = self._escaped(text)
        try:
            self.stream.write(shown)
        except UnicodeEncodeError:
            encoding = self.stream.encoding
            self.stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def _escaped(self, text: str) -> str:
        if not isinstance(text, str) or text.removesuffix("\n").isprintable():
            return text
        before = next((mark for mark in _BEGIN if text.startswith(mark)), "")
        after = next((mark for mark in _END if text.endswith(mark) and len(text) > len(before)), "")
        # As in JSON, so that a document stays one. Tabs are no danger, and some of our own texts have them.
        parts = _COLOUR.split(text[len(before) : len(text) - len(after)])
        return before + "".join(part if number % 2 else _guard(part) for number, part in enumerate(parts)) + after


def _guard(text: str) -> str:
    return "\t".join(map(escaped_json, text.split("\t")))


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Guard standard output and standard error meanwhile."""
    out, err = Guarded(sys.stdout), Guarded(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        # click replaces them with its own when the reader is gone.
        if sys.stdout is out:
            sys.stdout = out.stream
        if sys.stderr is err:
            sys.stderr = err.stream


def unguarded(stream: Any) -> Any:
    """The stream behind the guard, for what escapes by itself and in large batches."""
    return stream.stream if isinstance(stream, Guarded) else stream


_CLEAR = "\x1b[H\x1b[J"  # cursor home, erase to the end (ECMA-48)


def has_colour() -> bool:
    """Whether to colour: only on a terminal, and not against its user's wish (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int | None:
    """Return the number of characters in a line of the terminal; None if standard output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def redrawn(text: str) -> str:
    """Return a text that replaces what a terminal shows, each line cut to its width; elsewhere the text itself."""
    if not sys.stdout.isatty():
        return text
    # Wrapped lines would push the first ones out of sight.
    width = shutil.get_terminal_size().columns
    return _CLEAR + "\n".join(cut_line(line, width) for line in text.splitlines())


def cut_line(line: str, width: int) -> str:
    """Return at most ``width`` characters of a line; colours take no place."""
    shown, place = "", 0
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        shown += part if part.startswith("\x1b") else part[: width - place]
        place += 0 if part.startswith("\x1b") else min(len(part), width - place)
    return shown


def take_foreground() -> None:
    """Under make, let Ctrl-C reach this process alone.

    The terminal sends SIGINT to its whole foreground group, and make would then report a clean stop as a failure.
    """
    if "MAKELEVEL" not in os.environ or not sys.stdin.isatty() or os.getpgrp() == os.getpid():
        return
    try:
        if os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
            return  # in the background the terminal is the shell's
    except OSError:
        return  # not the terminal that signals come from
    # A background process that takes the terminal gets SIGTTOU (POSIX, tcsetpgrp).
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
    # Ctrl-Z would stop this group alone, and leave make waiting with a terminal that nobody reads.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)


#: From so many messages on it takes long enough to show how far it is.
LONG = 5000


def warn(text: str) -> None:
    """A line on standard error; yellow on a terminal."""
    click.secho(text, err=True, fg="yellow" if sys.stderr.isatty() else None)


@contextlib.contextmanager
def progress(label: str, total: int, *, is_long: bool = False) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, where that is a terminal and the work is long: call with how many are done."""
    if not sys.stderr.isatty() or (total < LONG and not is_long):
        yield lambda _: None
        return
    steps = max(1, total // 200)
    with click.progressbar(length=total, label=label, file=sys.stderr, show_pos=True, update_min_steps=steps) as bar:
        yield lambda done: bar.update(max(0, min(done, total) - bar.pos))


class StopRequest:
    """A person's wish to end early."""

    def __init__(self) -> None:
        self._number: int | None = None

    def take(self, number: int, _: object) -> None:
        """Handle the first signal; the next one ends the process at once."""
        self._number = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def is_wished(self) -> bool:
        """Whether to finish what is at hand, and no more."""
        return self._number is not None

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells say it; 0 without one."""
        return 0 if self._number is None else 128 + self._number


@contextlib.contextmanager
def stoppable() -> Iterator[StopRequest]:
    """Take the first Ctrl-C or SIGTERM for a wish to finish what is at hand, which the result tells."""
    stop = StopRequest()
    before = {number: signal.signal(number, stop.take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
