"""The terminal of a command: colours, warnings, progress, Ctrl-C, and the last guard before the output.

Commands escape the text of messages and other programs (``runner.escape``). The guard escapes any other text with
control characters, such as the name of a file in an error, so that no command can forget it.
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

#: Colours (ECMA-48, SGR), which only this program sets. Foreign text with colours is escaped before.
_COLOUR = re.compile(r"(\x1b\[[0-9;]{0,12}m)")
#: The control sequences with which commands begin and end a line that they rewrite.
_BEGIN, _END = ("\r\x1b[K", "\r", "\x1b[H\x1b[J"), ("\x1b[K",)


class Guarded:
    """A text stream that escapes control characters, except the sequences that this program itself writes."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        # Bytes would bypass the guard.
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write the text. A character that the stream's encoding lacks is written as an escape."""
        shown = self._escaped(text)
        try:
            self.stream.write(shown)
        except UnicodeEncodeError:
            encoding = self.stream.encoding
            self.stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def _escaped(self, text: str) -> str:
        if not isinstance(text, str) or text.removesuffix("\n").isprintable():
            return text
        before = next((mark for mark in _BEGIN if text.startswith(mark)), "")
        after = next((mark for mark in _END if text.endswith(mark) and len(text) > len(before)), "")
        # Escapes of JSON, so that a JSON document stays valid. Tabs are harmless, and some tables contain them.
        parts = _COLOUR.split(text[len(before) : len(text) - len(after)])
        return before + "".join(part if number % 2 else _guard(part) for number, part in enumerate(parts)) + after


def _guard(text: str) -> str:
    return "\t".join(map(escaped_json, text.split("\t")))


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Guard standard output and standard error inside the with block."""
    out, err = Guarded(sys.stdout), Guarded(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        # click replaces the streams when the reader is gone.
        if sys.stdout is out:
            sys.stdout = out.stream
        if sys.stderr is err:
            sys.stderr = err.stream


def unguarded(stream: Any) -> Any:
    """Return the stream behind the guard, for writers that escape by themselves in large batches."""
    return stream.stream if isinstance(stream, Guarded) else stream


_CLEAR = "\x1b[H\x1b[J"  # cursor home, erase to the end (ECMA-48)


def has_colour() -> bool:
    """Return True if standard output is a terminal that shows colours and NO_COLOR is not set (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int | None:
    """Return the number of characters in a line of the terminal; None if standard output is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def redrawn(text: str) -> str:
    """Return a text that replaces the content of a terminal, with its lines cut; elsewhere the text itself."""
    if not sys.stdout.isatty():
        return text
    # Wrapped lines would push the first ones out of sight.
    width = shutil.get_terminal_size().columns
    return _CLEAR + "\n".join(cut_line(line, width) for line in text.splitlines())


def cut_line(line: str, width: int) -> str:
    """Return at most ``width`` characters of a line; colours do not count."""
    shown, place = "", 0
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        shown += part if part.startswith("\x1b") else part[: width - place]
        place += 0 if part.startswith("\x1b") else min(len(part), width - place)
    return shown


def take_foreground() -> None:
    """Let Ctrl-C reach only this process if it runs under make.

    The terminal sends SIGINT to its whole foreground group, and make would then report a clean stop as a failure.
    """
    if "MAKELEVEL" not in os.environ or not sys.stdin.isatty() or os.getpgrp() == os.getpid():
        return
    try:
        if os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
            return  # in the background, the terminal belongs to the shell
    except OSError:
        return  # standard input is not the controlling terminal
    # A background process that takes the terminal gets SIGTTOU (POSIX, tcsetpgrp).
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
    # Ctrl-Z would stop only this group, and make would wait while no process reads the terminal.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)


#: The number of messages from which a progress bar is shown.
LONG = 5000


def warn(text: str) -> None:
    """Print a line on standard error; yellow on a terminal."""
    click.secho(text, err=True, fg="yellow" if sys.stderr.isatty() else None)


@contextlib.contextmanager
def progress(label: str, total: int, *, is_long: bool = False) -> Iterator[Callable[[int], None]]:
    """Yield a function that gets the number of finished items, and show them in a progress bar on standard error.

    There is no bar if standard error is no terminal or the work is short.
    """
    if not sys.stderr.isatty() or (total < LONG and not is_long):
        yield lambda _: None
        return
    steps = max(1, total // 200)
    with click.progressbar(length=total, label=label, file=sys.stderr, show_pos=True, update_min_steps=steps) as bar:
        yield lambda done: bar.update(max(0, min(done, total) - bar.pos))


class StopRequest:
    """The user's request to stop early."""

    def __init__(self) -> None:
        self._number: int | None = None

    def take(self, number: int, _: object) -> None:
        """Handle the first signal. The next signal ends the process immediately."""
        self._number = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def is_set(self) -> bool:
        """Return True after a signal: the command must finish its current step and stop."""
        return self._number is not None

    @property
    def exit_code(self) -> int:
        """The exit code: 128 plus the number of the signal, as in shells; 0 without a signal."""
        return 0 if self._number is None else 128 + self._number


@contextlib.contextmanager
def stoppable() -> Iterator[StopRequest]:
    """Yield a stop request that the first Ctrl-C or SIGTERM sets, so that the command can finish its current step."""
    stop = StopRequest()
    before = {number: signal.signal(number, stop.take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
