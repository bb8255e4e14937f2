"""``run --watch``: what is saved in either file or in a plugin takes effect while everything else runs on."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from runner.cli.reload import Reload, ReloadOutcome

#: What is looked at: the two files, and everything in the folder.
FILES, FOLDER = ("topology.yaml", "config.yaml"), "plugins"
#: Seconds between two looks at the files.
INTERVAL = 0.3
#: Seconds before a change is tried again that found the broker away.
TRY_AGAIN = 2.0

Signature = tuple[tuple[int, int, int], ...]


class Watch:
    """Looks at the files on a thread of its own, as editors on every file system let one do."""

    def __init__(self, folder: Path, reload: Reload) -> None:
        self._folder, self._reload = folder, reload
        self._seen = self._signature()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def _run(self) -> None:
        before = self._seen
        while True:
            time.sleep(INTERVAL)
            try:
                now = self._signature()
            except OSError:
                continue  # something is just being replaced
            # Twice the same, so that no half-written file is read.
            if now == before and now != self._seen:
                self._seen = now
                if self._reload.take() is ReloadOutcome.BROKER_AWAY:
                    time.sleep(TRY_AGAIN)
                    self._seen = ()
            before = now

    def _signature(self) -> Signature:
        files = [self._folder / name for name in FILES]
        plugins = sorted((self._folder / FOLDER).rglob("*"))
        files += [path for path in plugins if path.is_file() and "__pycache__" not in path.parts]
        return tuple(_signature_of(path) for path in files)


def _signature_of(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
