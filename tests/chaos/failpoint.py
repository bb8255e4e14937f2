"""Arms a failpoint, and reports when a process has exited there; see ``failing/sitecustomize.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.running import ROOT

FOLDER = Path(__file__).parent / "failing"
#: The exit code of a process that exits at a failpoint.
EXIT_CODE = 70


#: Steps that send bytes to the broker. The bytes must have left the process if it exits after the step.
SENT = {"publish", "note", "ack", "retry-queue publish", "dead-letter publish", "replay"}


@dataclass(frozen=True)
class Point:
    """A step of a service: a process exits right before or right after it, or loses its connection at it."""

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


#: Every step of every service. Only payments and points fail and are retried.
POINTS = [
    *_all("order_api", "commit", "publish", "confirm", "mark"),
    *_all("order_direct", "publish", "confirm"),
    *_all("payment", "commit", "publish", "confirm", "note", "note's confirm", "ack"),
    *_all("payment", "retry-queue publish", "dead-letter publish", "copy's confirm"),
    *_all("notification", "commit", "note", "ack", "dead-letter publish"),
    *_all("points", "commit", "note", "ack", "retry-queue publish", "dead-letter publish"),
    *_all("audit", "commit", "ack", "dead-letter publish"),
]
#: The steps of ``dlq replay``.
REPLAYS = _all("dlq", "replay", "confirm", "ack")


def one_of_each_step(points: list[Point]) -> list[Point]:
    """Return one point of each step, with ``before``, ``after`` and ``cut`` in turn."""
    steps: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        steps.setdefault((point.service, point.step), []).append(point)
    return [of_step[number % len(of_step)] for number, of_step in enumerate(steps.values())]


class Failpoints:
    """The files that name the next failpoint of each service."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder

    def environment(self, source: Path = ROOT) -> Mapping[str, str]:
        """Return the environment variables for a process. ``source`` is the tree with the product."""
        return {"FASTCOMMERCE_FAILPOINTS": str(self._folder), "PYTHONPATH": f"{FOLDER}:{source}"}

    def arm(self, point: Point) -> None:
        """Make the next process that reaches the point exit there."""
        (self._folder / f"{point.service}.fired").unlink(missing_ok=True)
        draft = self._folder / f"{point.service}.draft"
        draft.write_text(f"{point.when} {point.step}")
        # The file is renamed, so that no process reads half of it.
        draft.rename(self._folder / f"{point.service}.armed")

    def has_fired(self, point: Point) -> bool:
        """Return True if a process has exited at the point, and its bytes have left if the point is after a send."""
        try:
            said = (self._folder / f"{point.service}.fired").read_text()
        except FileNotFoundError:
            return False
        return said == "sent" or point.when != "after" or point.step not in SENT
