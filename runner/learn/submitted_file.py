"""The files in a learner's folder that a check reads. A submission may be hostile."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from runner.config.document import MAX_BYTES
from runner.learn.exercise import README

#: Names that a run or an editor writes. Hidden folders and files are ignored too.
IGNORED = ("var", "__pycache__", "*~", "#*#")


def file_names(folder: Path) -> set[str]:
    """Return the paths of all files in a folder, and of links. Files that a run or an editor writes are left out."""
    return set(_names(folder)) - {README}


def _names(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        here = Path(place).relative_to(folder)
        folders[:] = [one for one in folders if not _is_ignored(one)]
        links = [one for one in folders if os.path.islink(os.path.join(place, one))]
        yield from (str(here / one) for one in (*files, *links) if not _is_ignored(one))


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or any(fnmatchcase(name, one) for one in IGNORED)


def file_problem(path: Path) -> str | None:
    """Return why a file cannot be submitted, or None.

    A link could lead to the solution or to a private file of this machine, and reading a pipe could block.
    """
    try:
        found = path.lstat()
    except OSError as error:  # an editor has removed it meanwhile
        return f"cannot be read, {error.strerror}; save your files again"
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link; allowed: a file"
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file; allowed: a file"
    if found.st_size > MAX_BYTES:
        return f"has {found.st_size} bytes; allowed: {MAX_BYTES} bytes"
    return None if os.access(path, os.R_OK) else "cannot be read; give this user permission to read the file"
