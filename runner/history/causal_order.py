"""Things in the order of their causes first and of their times second, because clocks differ a little."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Hashable, Mapping, Set
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def causal_order(times: Mapping[K, tuple[int, str]], causes: Mapping[K, Set[K]]) -> list[K]:
    """The keys of ``times`` by time and then by name, but none before one of its ``causes``.

    Causes that are not there count for nothing. Where things are said to cause each other, which no clock or sender can
    make true, the earliest of them goes first.
    """
    open_causes = {key: {one for one in causes.get(key, ()) if one in times and one != key} for key in times}
    effects: dict[K, list[K]] = defaultdict(list)
    for key, found in open_causes.items():
        for cause in found:
            effects[cause].append(key)
    by_time = sorted(times, key=lambda key: times[key])
    # Places instead of the keys themselves, which need not be comparable.
    place = {key: number for number, key in enumerate(by_time)}
    free = [place[key] for key in by_time if not open_causes[key]]
    heapq.heapify(free)
    done: dict[K, None] = {}
    rest = iter(by_time)
    while len(done) < len(times):
        key = by_time[heapq.heappop(free)] if free else next(one for one in rest if one not in done)
        if key in done:
            continue
        done[key] = None
        for effect in effects[key]:
            open_causes[effect].discard(key)
            if not open_causes[effect] and effect not in done:
                heapq.heappush(free, place[effect])
    return list(done)
