"""Which faults a run meets, and when: drawn from its seed alone, so that the seed is enough to draw them again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    name: str
    #: How often it is drawn, beside the others.
    weight: int
    #: Seconds for which it lasts, from and to; 0 for what happens in an instant.
    lasts: tuple[float, float] = (0.0, 0.0)
    #: Of faults of one group the next begins only when the one before is over, and so many seconds have passed.
    group: str = ""
    rest: float = 0.0
    #: Seconds before the same kind comes again.
    apart: float = 0.0


KINDS = (
    Kind("worker killed", 8),
    Kind("worker hung", 2, (1.0, 4.0)),
    Kind("handlers slow", 2, (2.0, 4.0), "slow", 1.0),
    Kind("duplicates", 4),
    Kind("bad message", 3),
    Kind("message that kills", 2),
    Kind("supervisor killed", 2, (0.0, 0.0), "supervisor", 0.0, 20.0),
    Kind("broker killed", 2, (0.5, 4.0), "broker", 6.0, 30.0),
    Kind("connections cut", 3, (0.2, 4.0), "broker", 2.0),
    Kind("network silent", 1, (1.0, 4.0), "broker", 2.0),
    Kind("network slow", 2, (2.0, 5.0), "broker", 2.0),
    # It takes rabbitmqctl some seconds to raise and to end it.
    Kind("memory alarm", 2, (1.0, 3.0), "broker", 4.0),
    Kind("store locked", 3, (1.0, 5.0), "store", 2.0),
    Kind("store full", 2, (1.0, 4.0), "store", 2.0),
)
#: Of a cluster one node after the other is killed, and nothing else.
NODE = Kind("node killed", 1, (3.0, 3.0))


@dataclass(frozen=True)
class Planned:
    """A fault of a run."""

    #: Seconds since the run began.
    at: float
    kind: str
    #: For how many seconds it lasts.
    seconds: float
    #: From 0 up to 1: which of the services, slots or queues it meets.
    draw: float


def draw_faults(seed: int, length: float, every: float) -> list[Planned]:
    """One fault every ``every`` seconds of ``length`` seconds, of all kinds.

    Each kind comes once before it goes by weight, so that a short run meets all of them too.
    """
    chance = random.Random(seed)
    new = set(KINDS)
    free_at: dict[str, float] = {}
    again_at: dict[str, float] = {}
    planned = []
    for number in range(1, int(length / every)):
        at = number * every
        possible = [one for one in KINDS if free_at.get(one.group, 0.0) <= at and again_at.get(one.name, 0.0) <= at]
        possible = [one for one in possible if one in new] or possible
        kind = chance.choices(possible, [one.weight for one in possible])[0]
        new.discard(kind)
        seconds = chance.uniform(*kind.lasts)
        again_at[kind.name] = at + kind.apart
        if kind.group:
            free_at[kind.group] = at + seconds + kind.rest
        planned.append(Planned(at, kind.name, round(seconds, 2), chance.random()))
    return planned


def node_faults(length: float, every: float) -> list[Planned]:
    """One node after the other is killed, every ``every`` seconds, and started again some seconds later."""
    return [
        Planned(number * every, NODE.name, NODE.lasts[0], (number % 3) / 3) for number in range(1, int(length / every))
    ]
