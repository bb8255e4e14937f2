"""Arms a failpoint, and tells when a process has ended there; see ``failing/sitecustomize.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.running import ROOT

FOLDER = Path(__file__).parent / "failing"
#: Of a process that ended there.
EXIT_CODE = 70


#: Steps that are bytes to the broker, which must have left the process where it ends after them.
SENT = {"publish", "note", "ack", "wait-queue publish", "dead-letter publish", "replay"}


@dataclass(frozen=True)
class Point:
    """A step of a service: a process ends right before it or right after it, or loses its connection at it."""

    service: str
    #: ``before``, ``after`` or ``cut``.
    when: str
    step: str

    def __str__(self) -> str:
        return f"{self.service} {self.when} {self.step}"


def _all(service: str, *steps: str) -> list[Point]:
    return [
        Point(service, when, step)
        for step in steps
        for when in ("before", "after", *(["cut"] if step in SENT and service != "dlq" else []))
    ]


#: Every step of every service that has it; what fails and is tried again are payments and points.
POINTS = [
    *_all("order_api", "commit", "publish", "confirm", "mark"),
    *_all("order_direct", "publish", "confirm"),
    *_all("payment", "commit", "publish", "confirm", "note", "note's confirm", "ack"),
    *_all("payment", "wait-queue publish", "dead-letter publish", "copy's confirm"),
    *_all("notification", "commit", "note", "ack", "dead-letter publish"),
    *_all("points", "commit", "note", "ack", "wait-queue publish", "dead-letter publish"),
    *_all("audit", "commit", "ack", "dead-letter publish"),
]
#: Those of ``dlq replay``.
REPLAYS = _all("dlq", "replay", "confirm", "ack")


def one_of_each_step(points: list[Point]) -> list[Point]:
    """One point of each step, ``before``, ``after`` and ``cut`` in turn."""
    steps: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        steps.setdefault((point.service, point.step), []).append(point)
    return [of_step[number % len(of_step)] for number, of_step in enumerate(steps.values())]


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
        """Whether a process has come there; what was to be sent before its end must be."""
        try:
            said = (self._folder / f"{point.service}.fired").read_text()
        except FileNotFoundError:
            return False
        return said == "sent" or point.when != "after" or point.step not in SENT
