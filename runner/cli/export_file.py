"""A new file for copies of messages, one JSON line each."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click

from runner.errors import RunnerError


def named_by_time(folder: Path, word: str) -> Path:
    """``WORD-20261125T183821.579Z.jsonl`` in a folder, by the time in UTC."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    return folder / f"{word}-{now}Z.jsonl"


def in_a_folder(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """Check where a person wants a file: a folder that is not there is most likely a slip of the fingers."""
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"no folder {str(path.parent)!r}; allowed: a new file in a folder that is there")
    return path


class ExportFile:
    """A file for copies of messages: made with the first line, readable by its user alone, never in another's place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: IO[Any] | None = None
        #: True if the file's name is on the disk.
        self._is_named = False

    def check(self) -> None:
        """Raise RunnerError if the file exists, before a person is asked for anything."""
        if self.path.exists():
            raise RunnerError(f"{self.path}: is there already; allowed: a new file")

    def write(self, line: str) -> None:
        """Write a line. Raises RunnerError where the file is there already or cannot be written."""
        try:
            stream = self._stream or self._make()
            stream.write(line + "\n")
        except FileExistsError:
            raise RunnerError(f"{self.path}: is there already; allowed: a new file") from None
        except OSError as error:
            raise RunnerError(f"{self.path}: cannot be written, {error.strerror}") from None

    def _make(self) -> IO[Any]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Ctrl-C between the two steps would leave a file that ``remove`` does not know.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            stream: IO[Any] = os.fdopen(descriptor, "w", encoding="utf-8")
            self._stream = stream
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return stream

    def save(self) -> None:
        """Return once all lines are on the disk, the file's name too. Raises RunnerError."""
        if self._stream is None:
            return
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            if self._is_named:
                return
            descriptor = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._is_named = True
        except OSError as error:
            raise RunnerError(f"{self.path}: cannot be written, {error.strerror}") from None

    def sync(self) -> None:
        """Close it once it is on the disk, its name too. Raises RunnerError."""
        try:
            self.save()
        finally:
            if self._stream is not None:
                self._stream.close()

    def remove(self) -> None:
        """Nobody needs it."""
        if self._stream is not None:
            self._stream.close()
            self.path.unlink(missing_ok=True)
