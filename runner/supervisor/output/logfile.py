"""Log files with rotation, one for each slot.

Log lines contain customer data, such as addresses, so only the owner can read the files. A symbolic link in place of a
log file is not followed, because the lines would be appended to another file of the owner.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from runner.errors import RunnerError
from runner.logs import timestamp
from runner.supervisor.output.line import Line, json_form
from runner.supervisor.output.line_writer import LineWriter


class LogFiles(LineWriter):
    """The writer of log files such as ``payment.1.log``.

    A file that would exceed ``max_size`` bytes is renamed, for example to ``payment.1.log.1``. At most ``keep`` renamed
    files are kept.
    """

    def __init__(self, folder: Path, max_size: int, keep: int, log_format: str = "text") -> None:
        """Create the log folder, accessible only to its owner.

        Raises RunnerError if the folder is a link or belongs to another user.
        """
        self._folder, self._max_size, self._keep = folder, max_size, keep
        self._is_json = log_format == "json"
        self._files: dict[str, IO[bytes]] = {}
        #: The number of lost lines, which is written to a file as soon as writing succeeds again.
        self._lost = 0
        #: The function that reports why the lines of a slot cannot be written, once for each slot.
        self.complain: Callable[[str], None] = lambda _: None
        self._reported: set[str] = set()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._opened_folder() as descriptor, contextlib.suppress(PermissionError):
                os.fchmod(descriptor, 0o700)  # not permitted for another user's folder, which is left unchanged
        except OSError as error:
            why = "is a link" if folder.is_symlink() else f"cannot be used, {error.strerror}"
            raise RunnerError(f"{folder}: {why}; allowed: a folder of this user, for log files") from None
        super().__init__("log files")

    def write(self, lines: Sequence[Line], dropped: int) -> bool:
        """Write a batch of lines.

        Lines that cannot be written are counted as lost, and the next batch is still attempted.
        """
        self._lost += dropped
        by_slot: dict[str, list[bytes]] = defaultdict(list)
        for line in lines:
            by_slot[line.slot].append(self._form(line))
        for slot, texts in by_slot.items():
            try:
                self._append(slot, texts)
            except OSError as error:
                self._lost += len(texts)
                self._report(slot, error)
                if (file := self._files.pop(slot, None)) is not None:
                    with contextlib.suppress(OSError):
                        file.close()
        return True

    def finish(self) -> None:
        """Close the log files."""
        for file in self._files.values():
            file.close()

    def _report(self, slot: str, error: OSError) -> None:
        if slot in self._reported:
            return
        self._reported.add(slot)
        path = self._folder / f"{slot}.log"
        is_irregular = error.errno in (errno.ELOOP, errno.ENXIO)
        why = "is not a regular file" if is_irregular else f"cannot be written, {error.strerror}"
        self.complain(f"{path}: {why}; the lines of {slot} are lost until the problem is fixed")

    def _append(self, slot: str, texts: list[bytes]) -> None:
        if self._lost:
            note = Line(time.time(), "runner", f"{self._lost} lines before this line were lost", "warning")
            texts = [self._form(note), *texts]
        file = self._files.get(slot) or self._open(slot)
        for text in texts:
            if file.tell() and file.tell() + len(text) > self._max_size:
                file = self._rotate(slot)
            file.write(text)
        file.flush()
        self._lost = 0

    def _form(self, line: Line) -> bytes:
        text = json_form(line) if self._is_json else f"{timestamp(line.time)} {line.marked}"
        return text.encode("utf-8", "backslashreplace") + b"\n"

    @contextlib.contextmanager
    def _opened_folder(self) -> Iterator[int]:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open(self, slot: str) -> IO[bytes]:
        # Because of O_NONBLOCK, a pipe in place of a log file does not block this thread (open(2), ENXIO).
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        with self._opened_folder() as folder:
            descriptor = os.open(f"{slot}.log", flags, 0o600, dir_fd=folder)
        try:
            found = os.fstat(descriptor)
            # If the file had another hard link, the lines would also appear in another file.
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            os.fchmod(descriptor, 0o600)
        except OSError:
            os.close(descriptor)
            raise
        file = os.fdopen(descriptor, "ab")
        self._files[slot] = file
        self._reported.discard(slot)
        return file

    def _rotate(self, slot: str) -> IO[bytes]:
        self._files.pop(slot).close()
        path = self._folder / f"{slot}.log"
        older = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, self._keep + 1))]
        for newer, old in reversed(list(itertools.pairwise(older))):
            with contextlib.suppress(FileNotFoundError):
                newer.replace(old)
        if self._keep == 0:
            path.unlink()
        return self._open(slot)
