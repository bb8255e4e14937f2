"""The faults of a run and their times. The seed alone determines them."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    name: str
    #: The relative frequency of the kind.
    weight: int
    #: The shortest and longest duration in seconds; 0 for an instantaneous fault.
    lasts: tuple[float, float] = (0.0, 0.0)
    #: The group. The next fault of a group starts ``rest`` seconds after the end of the previous one.
    group: str = ""
    rest: float = 0.0
    #: The minimum number of seconds between two faults of this kind.
    apart: float = 0.0


KINDS = (
    Kind("worker killed", 8),
    Kind("worker hung", 2, (1.0, 4.0)),
    Kind("handlers slow", 2, (2.0, 4.0), "slow", 1.0),
    Kind("duplicates", 4),
    Kind("bad message", 3),
    Kind("crashing message", 2),
    Kind("supervisor killed", 2, (0.0, 0.0), "supervisor", 0.0, 20.0),
    Kind("broker killed", 2, (0.5, 4.0), "broker", 6.0, 30.0),
    Kind("connections cut", 3, (0.2, 4.0), "broker", 2.0),
    Kind("network silent", 1, (1.0, 4.0), "broker", 2.0),
    Kind("network slow", 2, (2.0, 5.0), "broker", 2.0),
    # rabbitmqctl needs some seconds to raise the alarm and to clear it.
    Kind("memory alarm", 2, (1.0, 3.0), "broker", 4.0),
    Kind("store locked", 3, (1.0, 5.0), "store", 2.0),
    Kind("store full", 2, (1.0, 4.0), "store", 2.0),
)
#: The only fault of a cluster: one node after the other is killed.
NODE = Kind("node killed", 1, (3.0, 3.0))


@dataclass(frozen=True)
class Planned:
    """A planned fault of a run."""

    #: Seconds since the start of the run.
    at: float
    kind: str
    #: The duration in seconds.
    seconds: float
    #: From 0 to below 1: selects the service, slot or queue.
    draw: float


def draw_faults(seed: int, length: float, every: float) -> list[Planned]:
    """Draw one fault for every ``every`` seconds of ``length`` seconds, of all kinds.

    Each kind is drawn once before the weights apply, so that a short run also contains all kinds.
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
    """Return a plan that kills one node every ``every`` seconds, in turn. Each node restarts some seconds later."""
    return [
        Planned(number * every, NODE.name, NODE.lasts[0], (number % 3) / 3) for number in range(1, int(length / every))
    ]
