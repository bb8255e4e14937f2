"""An unacked delivery of a worker, and the fields that are read from its message."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pika

from runner.headers import ATTEMPT
from tests.simulation.broker import Stored

#: The stages of a delivery in its worker.
STAGES = ("delivered", "at work", "in commit", "committed", "published", "confirmed")


@dataclass(eq=False)
class UnackedDelivery:
    """An unacked delivery of a worker."""

    name: str
    stored: Stored
    channel: object
    stage: int = 0

    @property
    def attempt(self) -> int:
        """The number of the attempt."""
        return attempt_of(self.stored.properties)


@lru_cache(maxsize=4096)
def content_of(body: bytes) -> dict[str, Any]:
    """Return the decoded body. Each body is decoded once."""
    found: dict[str, Any] = json.loads(body)
    return found


def attempt_of(properties: pika.BasicProperties) -> int:
    """Return the number of the attempt from a message's headers."""
    return int((properties.headers or {}).get(ATTEMPT, 1))
