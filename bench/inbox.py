"""The work of ``bench.consume`` with ``inbox: true`` on durable SQLite, beside FastStream without deduplication.

The database is in the folder that ``tempfile`` chooses. Set TMPDIR to measure another disk. On a tmpfs a commit needs
no disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import consume
from bench.figure import Figure
from bench.ground import Ground, say

NAME = "inbox"
ABOUT = "consume, publish, acknowledge with inbox: true on SQLite, beside FastStream without deduplication"

_PEER = "FastStream"


def file_system(folder: Path) -> str:
    """Return the type of the file system of a folder."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split(" ")
        if folder.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def measure(ground: Ground, runs: int, quick: bool) -> Iterator[Figure]:
    """Measure the product with an inbox beside FastStream without deduplication."""
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
