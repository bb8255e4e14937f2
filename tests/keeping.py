"""Stores for tests: one that keeps nothing, and real databases."""

from __future__ import annotations

from pathlib import Path

from runner.worker.storage import MessageStore, Storage

#: What the handler of a service without an inbox gets.
NOTHING = MessageStore(Storage("sqlite:///nowhere/never-opened.db", Path(), lambda _: None), inbox=False)


def kept(folder: Path) -> tuple[Storage, MessageStore]:
    """What the handler of a service with an inbox gets, on a SQLite file in ``folder``."""
    storage = Storage("sqlite:///kept.db", folder, lambda _: None)
    return storage, MessageStore(storage, inbox=True)
