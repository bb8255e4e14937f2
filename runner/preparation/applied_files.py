"""Copies of the two files that the supervisor has applied, so that another process can compare edits with them."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

from runner.config.project import CONFIG_FILE, TOPOLOGY_FILE, Project, load_project

#: The folder of the copies, in the folder for runtime data.
FOLDER = "applied"


def applied_folder(folder: Path) -> Path:
    """Return the folder of the copies. ``folder`` is the project's folder."""
    return folder / "var" / FOLDER


def keep_applied(project: Project) -> None:
    """Copy the files of a project that is about to run.

    Without a copy, for example on a full disk, the system runs as usual.
    """
    folder = applied_folder(project.folder)
    documents = (project.topology_document, project.config_document)
    try:
        # config.yaml may contain passwords.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for document in documents:
            temporary = folder / f"{document.file}.new"
            with open(temporary, "w", encoding="utf-8", opener=_private) as file:
                file.write(document.text)
            temporary.replace(folder / document.file)
    except OSError:
        # An outdated copy would be worse than none.
        for document in documents:
            with contextlib.suppress(OSError):
                (folder / document.file).unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def load_applied(folder: Path) -> Project | None:
    """Return the project that the supervisor has applied, or None if there is no copy. Raises ConfigError."""
    copies = applied_folder(folder)
    if not all((copies / name).is_file() for name in (TOPOLOGY_FILE, CONFIG_FILE)):
        return None
    return replace(load_project(copies), folder=folder)
