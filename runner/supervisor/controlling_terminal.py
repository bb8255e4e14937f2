"""The terminal that the supervisor was started in, if any."""

from __future__ import annotations

import os


class Terminal:
    """Remembers whether there was one, and can tell whether it is gone."""

    def __init__(self) -> None:
        self._was_there = _is_there()

    def is_lost(self) -> bool:
        """Whether SIGHUP means that its window was closed, and not that somebody asked for the files to be read."""
        return self._was_there and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
