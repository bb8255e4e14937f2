"""The edges of the picture that the steps of messages use, and the rate of each edge."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from runner.dashboard.sample_window import SampleWindow
from runner.topology.model import Objects
from runner.topology.offline_routing import OfflineRouter
from runner.topology.route_report import edges_of

#: The end of an edge's source. The name of an exchange or queue may contain ``>``.
_TARGET = re.compile(r">(?=(?:service|exchange|queue|retry|dead) )")


def ends_of(edge: str) -> tuple[str, str]:
    """Return the source and the target of an edge, such as ``exchange orders`` and ``queue orders.audit``."""
    source, *target = _TARGET.split(edge, maxsplit=1)
    return source, "".join(target)


class EdgeRoutes:
    """The edges that each step of a message uses in a topology."""

    def __init__(self, objects: Objects | None) -> None:
        """``objects`` is None if the files cannot be read. Then only the edges of services are known."""
        self._router = None if objects is None else OfflineRouter(objects)
        #: The routing of a message depends only on the exchange and the key, unless an exchange reads headers.
        self._routes = lru_cache(maxsize=4096)(self._route)

    def of(self, service: str, kind: str, other: str, key: str) -> tuple[str, ...]:
        """Return the ids of the edges that a step uses, in their order."""
        match kind:
            case "published":
                return (f"service {service}>exchange {other}", *self._routes(other, key))
            case "delivered":
                return (f"queue {other}>service {service}",)
            case "retried":
                return (f"service {service}>retry {other}",)
            case "dead_lettered" | "rejected":
                return (f"service {service}>dead {other}",)
        return ()

    def _route(self, exchange: str, key: str) -> tuple[str, ...]:
        """Return the edges behind an exchange. Headers of the message are unknown."""
        if self._router is None:
            return ()
        return tuple(edges_of(hop for hop in self._router.route(exchange, key).hops if hop.type != "headers"))


class EdgeRates:
    """The rates of all edges, from the counters of the slots."""

    def __init__(self) -> None:
        self._window: SampleWindow[dict[str, int]] = SampleWindow()

    def add(self, time: float, slots: Sequence[Mapping[str, Any]], routes: EdgeRoutes) -> dict[str, float]:
        """Add the counters of all slots. Return the rate of each used edge per second.

        ``time`` is in seconds of a monotonic clock.
        """
        totals: dict[str, int] = {}
        for slot in slots:
            for kind, other, key, count, *_ in slot.get("edges", ()):
                for edge in routes.of(slot["service"], kind, other, key):
                    totals[edge] = totals.get(edge, 0) + count
        span, before = self._window.add(time, totals)
        if span <= 0:
            return {}
        # An edge that was first used within the window started from zero.
        return {
            edge: round(max(0, count - before.get(edge, 0)) / span, 1)
            for edge, count in totals.items()
            if count > before.get(edge, 0)
        }
