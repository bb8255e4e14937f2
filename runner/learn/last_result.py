"""The result of the last check of each exercise, which the page Learn shows, and the files that were checked."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from runner.bounded_file import read_bounded
from runner.learn.exercise import README
from runner.learn.verdict import ExerciseResult

#: The folder of the results, and the file that the watch mode locks, in the learner's folder.
RESULTS, WATCHED = ".results", ".watched"
_MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class LastResult:
    """The result of a check."""

    result: ExerciseResult
    #: The fingerprint of the checked files.
    fingerprint: str
    #: Seconds since the epoch.
    at: float


_LAST_RESULT = TypeAdapter(LastResult)


def fingerprint_of(folder: Path) -> str:
    """Return a text that changes with each save in a folder. It is polled, because some systems report no changes."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if "var" in name.parts or "__pycache__" in name.parts or name.name == README:
            continue
        with contextlib.suppress(OSError):
            if path.is_file():
                content = path.read_bytes()
                found.update(f"{name}\0{len(content)}\0".encode(errors="surrogateescape") + content)
    return found.hexdigest()


def write_result(folder: Path, last: LastResult) -> None:
    """Store the result of a check in the learner's folder."""
    results = folder / RESULTS
    results.mkdir(parents=True, exist_ok=True)
    temporary = results / f"{last.result.exercise}.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(last), indent=2) + "\n", "utf-8")
    temporary.replace(results / f"{last.result.exercise}.json")


def read_result(folder: Path, exercise: str) -> LastResult | None:
    """Return the result of the last check of an exercise, or None if there is none or if it cannot be read."""
    try:
        return _LAST_RESULT.validate_json(read_bounded(folder / RESULTS / f"{exercise}.json", _MAX_BYTES))
    except (OSError, ValidationError):
        # The files are checked again, for example if another version wrote the result.
        return None


@contextlib.contextmanager
def hold_watch(folder: Path) -> Iterator[None]:
    """Hold a lock that shows other processes that the watch mode checks each save in a learner's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / WATCHED).open("a") as file:
        # If two watch modes run in one folder, both check the files.
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def is_watched(folder: Path) -> bool:
    """Return True if the watch mode is running in a learner's folder."""
    try:
        with (folder / WATCHED).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
