"""What a person sees of long work on the desk, and how it is ended early."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator

import click

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
