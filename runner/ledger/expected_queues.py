"""The queues to which bindings route an event, and the age of each route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from runner.config.topology_file import PREDEFINED_EXCHANGES
from runner.topology.live import BindingKey
from runner.topology.model import Objects
from runner.topology.offline_routing import OfflineRouter

#: The exchange types that route only by the routing key, or to all bindings.
_PREDICTABLE = ("direct", "fanout", "topic")


class OpenRoute(NamedTuple):
    """The age of the routes to an exchange or queue."""

    #: The time since which a route is known to exist, in milliseconds since the epoch. None if the time is unknown.
    since: int | None
    #: True if another route of unknown age may be older.
    is_unsure: bool = False

    def through(self, since: int | None) -> OpenRoute:
        """Extend the route by a binding that was created at ``since``, or at an unknown time."""
        if since is None:
            return _UNSURE
        return OpenRoute(None if self.since is None else max(self.since, since), self.is_unsure)

    def beside(self, other: OpenRoute | None) -> OpenRoute:
        """Return the older of two routes to the same destination."""
        if other is None:
            return self
        since = min((one for one in (self.since, other.since) if one is not None), default=None)
        # No route can be older than a route that always existed.
        return OpenRoute(since, since != 0 and (self.is_unsure or other.is_unsure))


_UNSURE = OpenRoute(None, True)


class ExpectedQueues:
    """A router that follows events through the bindings on the broker."""

    def __init__(self, objects: Objects, since: Mapping[BindingKey, int], begun: int | None = None) -> None:
        """``since`` contains the creation time of each recorded binding, in milliseconds since the epoch.

        ``begun`` is the time of the broker's oldest record, if known. The broker may have lost older data.
        """
        self._router, self._since, self.begun = OfflineRouter(objects), since, begun
        self._known: dict[tuple[str, str], Mapping[str, OpenRoute]] = {}
        types = {**PREDEFINED_EXCHANGES, **{one.name: one.type for one in objects.exchanges}}
        predictable, others = set[str](), set[str]()
        for one in objects.bindings:
            if one.destination_type == "queue":
                (predictable if types.get(one.source) in _PREDICTABLE else others).add(one.destination)
        #: The queues that receive messages only through headers exchanges, or through exchange types that plugins
        #: provide.
        self.unpredictable = frozenset(others - predictable)

    def of(self, exchange: str, key: str) -> Mapping[str, OpenRoute]:
        """Return the queues that receive an event with this exchange and routing key, each with the age of its route.

        The age is unknown for a route through an alternate exchange, and for a binding that is older than the broker's
        records.
        """
        if (exchange, key) not in self._known:
            self._known[exchange, key] = self._follow(exchange, key)
        return self._known[exchange, key]

    def _follow(self, exchange: str, key: str) -> Mapping[str, OpenRoute]:
        route = self._router.route(exchange, key)
        if not route.hops:
            return dict.fromkeys(route.queues, _UNSURE)
        hops = [hop for hop in route.hops if hop.type in _PREDICTABLE]
        reached, queues = {exchange: OpenRoute(0)}, dict[str, OpenRoute]()
        # A later hop may reach an exchange by an older route, so repeat until no age changes.
        before: dict[str, OpenRoute] = {}
        while reached != before:
            before = dict(reached)
            for hop in hops:
                here = reached.get(hop.exchange)
                if here is None:
                    continue
                for one in hop.bindings:
                    found = reached if one.destination_type == "exchange" else queues
                    found[one.destination] = here.through(self._since.get(one.key)).beside(found.get(one.destination))
                if hop.alternate is not None:
                    reached[hop.alternate] = _UNSURE.beside(reached.get(hop.alternate))
        return {name: queues[name] for name in route.queues if name in queues}
