"""The project's files while pages are open: the files of the running system, and errors in edited files."""

from __future__ import annotations

import threading
from pathlib import Path

from runner.dashboard.page_files import RunningFiles, read_applied, read_files, stamp_of


class WatchedFiles:
    """The files in a folder, which are read again after a change. Any thread may call the methods."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._stamp: tuple[object, ...] = ()
        self._running, self._has_applied = RunningFiles(), False
        #: The errors in the edited files.
        self.problems: list[dict[str, str]] = []

    @property
    def running(self) -> RunningFiles:
        """The files of the running system, which are read on first use and again after a reload."""
        with self._lock:
            if not self._stamp:
                self.read()
            return self._running

    def is_changed(self) -> bool:
        """Read the files again if one of them has changed. Return True if so."""
        with self._lock:
            if not self._stamp or stamp_of(self._folder) == self._stamp:
                return False
            self.read()
            return True

    def read(self, *, is_reloaded: bool = False) -> None:
        """Read the files. ``is_reloaded`` is True if the supervisor has just applied them."""
        with self._lock:
            stamp = stamp_of(self._folder)
            edited = read_files(self._folder)
            if not self._stamp or stamp[2:] != self._stamp[2:]:
                applied = read_applied(self._folder)
                self._has_applied = applied.project is not None
                self._running = applied if self._has_applied else self._running
            is_first = self._running.project is None
            if not self._has_applied and (is_first or (is_reloaded and edited.project is not None)):
                self._running = edited
            self.problems, self._stamp = edited.problems, stamp
