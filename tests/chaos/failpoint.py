"""Arms a failpoint, and tells when a process has ended there; see ``failing/sitecustomize.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.running import ROOT

FOLDER = Path(__file__).parent / "failing"
#: Of a process that ended there.
EXIT_CODE = 70


@dataclass(frozen=True)
class Point:
    """Where a process ends: right before, or right after, a step of a service."""

    service: str
    when: str
    step: str

    def __str__(self) -> str:
        return f"{self.service} {self.when} {self.step}"


def _both(service: str, *steps: str) -> list[Point]:
    return [Point(service, when, step) for step in steps for when in ("before", "after")]


#: Every step of every service that has it.
POINTS = [
    *_both("order_api", "commit", "publish", "confirm", "mark"),
    *_both("order_direct", "publish", "confirm"),
    *_both("payment", "commit", "publish", "confirm", "note", "ack", "wait-queue publish", "dead-letter publish"),
    *_both("notification", "commit", "note", "ack", "dead-letter publish"),
    *_both("points", "commit", "note", "ack", "dead-letter publish"),
    *_both("audit", "commit", "ack"),
]
#: Those of ``dlq replay``.
REPLAYS = _both("dlq", "replay", "confirm", "ack")


class Failpoints:
    """The files that name where the next process of a service ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder

    def environment(self, source: Path = ROOT) -> Mapping[str, str]:
        """What a process needs in its environment; ``source`` is the tree that holds the product."""
        return {"FASTCOMMERCE_FAILPOINTS": str(self._folder), "PYTHONPATH": f"{FOLDER}:{source}"}

    def arm(self, point: Point) -> None:
        """Let the next process that comes there end."""
        (self._folder / f"{point.service}.fired").unlink(missing_ok=True)
        draft = self._folder / f"{point.service}.draft"
        draft.write_text(f"{point.when} {point.step}")
        # Renamed, so that nobody reads half of it.
        draft.rename(self._folder / f"{point.service}.armed")

    def has_fired(self, point: Point) -> bool:
        """Whether a process has come there."""
        return (self._folder / f"{point.service}.fired").exists()
