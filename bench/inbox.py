"""The same work with ``inbox: true``: each message once, on SQLite with full durability, beside FastStream without any.

The database is where ``tempfile`` puts the project: TMPDIR names another disk. On a tmpfs a commit costs no disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import consume
from bench.figure import Figure
from bench.ground import Ground, say

NAME = "inbox"
ABOUT = "consume, publish, acknowledge with inbox: true on SQLite, beside FastStream without any inbox"

_PEER = "FastStream"


def file_system(folder: Path) -> str:
    """The kind of file system that a folder is on."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split(" ")
        if folder.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def measure(ground: Ground, runs: int, quick: bool) -> Iterator[Figure]:
    """Ours with an inbox, beside FastStream without one."""
    say(f"    the database is on {file_system(ground.folder)}")
    names = consume.available(_PEER)
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(runs):
        mine.append(consume.ours(ground, "quorum", 2_000 if quick else 5_000, {"inbox": True})[0])
        theirs += [consume.peer(ground, "quorum", name, 4 if quick else 1)[0] for name in names]
    what = "the same with an inbox on SQLite"
    if theirs:
        yield Figure.beside(what, "msg/s", mine, theirs, f"{_PEER}, no inbox", "ratio >= 1")
    else:
        yield Figure.alone(what, "msg/s", mine)
