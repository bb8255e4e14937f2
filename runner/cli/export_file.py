"""An export file with copies of messages, one JSON object per line."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click

from runner.errors import RunnerError


def named_by_time(folder: Path, word: str) -> Path:
    """Return a path with the current UTC time in its name, such as ``WORD-20261125T183821.579Z.jsonl``."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    return folder / f"{word}-{now}Z.jsonl"


def in_a_folder(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """Return the path of a new file. Raises BadParameter if the folder does not exist, probably because of a typo."""
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"no folder {str(path.parent)!r}; allowed: a new file in an existing folder")
    return path


class ExportFile:
    """A file for copies of messages, which only the file's owner can read.

    The file is created when its first line is written. An existing file is never replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: IO[Any] | None = None
        #: True after the file's directory entry has been written to disk.
        self._is_named = False

    def check(self) -> None:
        """Raise RunnerError if the file exists, so that the command fails before it asks for confirmation."""
        if self.path.exists():
            raise RunnerError(f"{self.path}: already exists; allowed: a new file")

    def write(self, line: str) -> None:
        """Write a line. Raises RunnerError if the file cannot be written, or existed before the first write."""
        try:
            stream = self._stream or self._make()
            stream.write(line + "\n")
        except FileExistsError:
            raise RunnerError(f"{self.path}: already exists; allowed: a new file") from None
        except OSError as error:
            raise RunnerError(f"{self.path}: cannot be written, {error.strerror}") from None

    def _make(self) -> IO[Any]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Signals are blocked, because ``remove`` would not delete a file that is created but not yet stored in
        # ``_stream``.
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
        """Write all lines and the file's directory entry to disk. Raises RunnerError."""
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
        """Write the file and its directory entry to disk, and close the file. Raises RunnerError."""
        try:
            self.save()
        finally:
            if self._stream is not None:
                self._stream.close()

    def remove(self) -> None:
        """Close and delete the file."""
        if self._stream is not None:
            self._stream.close()
            self.path.unlink(missing_ok=True)
