"""A delivery in a worker's hands, and what can be read from a message."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pika

from runner.headers import ATTEMPT
from tests.simulation.broker import Stored

#: How far a delivery has got in its worker.
STAGES = ("held", "at work", "in commit", "committed", "published", "confirmed")


@dataclass(eq=False)
class Held:
    """One delivery in a worker's hands."""

    name: str
    stored: Stored
    channel: object
    stage: int = 0

    @property
    def attempt(self) -> int:
        """Which attempt it is."""
        return attempt_of(self.stored.properties)


@lru_cache(maxsize=4096)
def content_of(body: bytes) -> dict[str, Any]:
    """What a body says; each is read once."""
    found: dict[str, Any] = json.loads(body)
    return found


def attempt_of(properties: pika.BasicProperties) -> int:
    """Which attempt a message is."""
    return int((properties.headers or {}).get(ATTEMPT, 1))
