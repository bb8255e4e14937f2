"""The terminal of a command: colours, warnings, progress bars, Ctrl-C, and a guard for all output.

Commands escape text from messages and other programs (``runner.escape``). The guard escapes control characters in all
other text, such as a file name in an error, so that no text remains unescaped.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from runner.escape import escaped_json

#: The colour codes (ECMA-48, SGR) that this program writes. Colour codes in untrusted text are escaped earlier.
_COLOUR = re.compile(r"(\x1b\[[0-9;]{0,12}m)")
#: The control sequences at the start and at the end of a rewritten line.
_BEGIN, _END = ("\r\x1b[K", "\r", "\x1b[H\x1b[J"), ("\x1b[K",)


class Guarded:
    """A text stream that escapes control characters, except in the sequences that this program itself writes."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        # Bytes would bypass the guard.
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write the text. A character that the stream cannot encode is written as an escape sequence."""
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
        # JSON escape sequences keep a JSON document valid. Tabs are harmless, and some tables contain tabs.
        parts = _COLOUR.split(text[len(before) : len(text) - len(after)])
        return before + "".join(part if number % 2 else _guard(part) for number, part in enumerate(parts)) + after


def _guard(text: str) -> str:
    return "\t".join(map(escaped_json, text.split("\t")))


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Guard standard output and standard error within the ``with`` block."""
    out, err = Guarded(sys.stdout), Guarded(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        # click replaces the streams if the reader of a pipe has exited.
        if sys.stdout is out:
            sys.stdout = out.stream
        if sys.stderr is err:
            sys.stderr = err.stream


def unguarded(stream: Any) -> Any:
    """Return the stream behind the guard, for writers that escape their own output in large batches."""
    return stream.stream if isinstance(stream, Guarded) else stream


_CLEAR = "\x1b[H\x1b[J"  # cursor home, erase to the end (ECMA-48)


def has_colour() -> bool:
    """Return True if standard output is a terminal that shows colours and NO_COLOR is not set (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int | None:
    """Return the width of the terminal in characters, or None if standard output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def wrapped(line: str, hang: int = 4) -> str:
    """Return a line that is wrapped between words to the width of a terminal.

    ``hang`` is the number of spaces before all lines except the first. If the output is not a terminal, the line is not
    wrapped.
    """
    width = terminal_width()
    if width is None or len(line) <= width:
        return line
    return "\n".join(
        textwrap.wrap(
            line, max(width, hang + 20), subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False
        )
    )


def redrawn(text: str) -> str:
    """Return text that redraws the terminal with truncated lines.

    If the output is not a terminal, return the text unchanged.
    """
    if not sys.stdout.isatty():
        return text
    # Wrapped lines would push the first lines off the screen.
    width = shutil.get_terminal_size().columns
    return _CLEAR + "\n".join(cut_line(line, width) for line in text.splitlines())


def cut_line(line: str, width: int) -> str:
    """Return at most ``width`` characters of a line, not counting colour codes."""
    shown, place = "", 0
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        shown += part if part.startswith("\x1b") else part[: width - place]
        place += 0 if part.startswith("\x1b") else min(len(part), width - place)
    return shown


def take_foreground() -> None:
    """Make Ctrl-C reach only this process if the process runs under make.

    The terminal sends SIGINT to the whole foreground process group, and make would report a clean stop as a failure.
    """
    if "MAKELEVEL" not in os.environ or not sys.stdin.isatty() or os.getpgrp() == os.getpid():
        return
    try:
        if os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
            return  # in the background, where the shell owns the terminal
    except OSError:
        return  # Standard input is not the controlling terminal.
    # A background process that becomes the foreground group gets SIGTTOU (POSIX, tcsetpgrp).
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
    # Ctrl-Z would stop only this process group. ``make`` would keep waiting for this group, and no process would read
    # the terminal.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)


#: The minimum number of messages for a progress bar.
LONG = 5000
#: Seconds between two progress lines.
LINE_INTERVAL = 1.0


def warn(text: str) -> None:
    """Print a warning on standard error, in yellow on a terminal."""
    click.secho(text, err=True, fg="yellow" if sys.stderr.isatty() else None)


@contextlib.contextmanager
def progress(
    label: str, total: int, *, is_long: bool = False, is_asked: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error. Yield a function to call with the number of finished items.

    If standard error is not a terminal, lines such as ``replaying: 54 of 84`` replace the bar, but only if ``is_asked``
    is true. Nothing is shown if the number of items is small, unless ``is_long`` or ``is_asked`` is true.
    """
    if not sys.stderr.isatty() and is_asked:
        yield from _progress_lines(label, total)
        return
    if not sys.stderr.isatty() or (total < LONG and not is_long and not is_asked):
        yield lambda _: None
        return
    steps = max(1, total // 200)
    with click.progressbar(length=total, label=label, file=sys.stderr, show_pos=True, update_min_steps=steps) as bar:
        yield lambda done: bar.update(max(0, min(done, total) - bar.pos))


def _progress_lines(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Print a line at the start and at the end, and a line each LINE_INTERVAL between them if the number changes."""
    done, printed, printed_at = 0, -1, 0.0

    def report() -> None:
        nonlocal printed, printed_at
        if printed != done:
            printed, printed_at = done, time.monotonic()
            click.echo(f"{label}: {done} of {total}", err=True)

    def show(number: int) -> None:
        nonlocal done
        done = max(done, min(number, total))
        if time.monotonic() - printed_at >= LINE_INTERVAL:
            report()

    report()
    try:
        yield show
    finally:
        report()


class StopRequest:
    """The user's request to stop early."""

    def __init__(self) -> None:
        self._number: int | None = None

    def take(self, number: int, _: object) -> None:
        """Handle the first signal. The next signal terminates the process immediately."""
        self._number = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def is_set(self) -> bool:
        """Return True after a signal, so that the command finishes its current step and stops."""
        return self._number is not None

    @property
    def exit_code(self) -> int:
        """The exit code: 128 plus the signal number, as in shells, or 0 if there was no signal."""
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
