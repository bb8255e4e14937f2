"""To which queues an event has been brought, and since when its way there has been open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from runner.config.topology_file import PREDEFINED_EXCHANGES
from runner.topology.live import BindingKey
from runner.topology.model import Objects
from runner.topology.offline_routing import OfflineRouter

#: The types of exchanges whose choice an exchange's name and a routing key tell.
_TOLD = ("direct", "fanout", "topic")


class OpenRoute(NamedTuple):
    """Since when a place has been reached."""

    #: In ms since the epoch: from then on for sure; None where no way's time is remembered.
    since: int | None
    #: Whether it may have been reached earlier, by a way of which that is not remembered.
    is_unsure: bool = False

    def through(self, since: int | None) -> OpenRoute:
        """Further, by a binding that has been there ``since``."""
        if since is None:
            return _UNSURE
        return OpenRoute(None if self.since is None else max(self.since, since), self.is_unsure)

    def beside(self, other: OpenRoute | None) -> OpenRoute:
        """Of two ways to the same place whichever was open earlier."""
        if other is None:
            return self
        since = min((one for one in (self.since, other.since) if one is not None), default=None)
        # Earlier than always is nothing.
        return OpenRoute(since, since != 0 and (self.is_unsure or other.is_unsure))


_UNSURE = OpenRoute(None, True)


class ExpectedQueues:
    """Follows events through the bindings of a topology that are on the broker."""

    def __init__(self, objects: Objects, since: Mapping[BindingKey, int], begun: int | None = None) -> None:
        """``since`` is what the broker remembers of when a binding was made; nothing for one of which it does not.

        ``begun`` is when it began to remember, where that is known: its data may have been made anew then.
        """
        self._router, self._since, self.begun = OfflineRouter(objects), since, begun
        self._known: dict[tuple[str, str], Mapping[str, OpenRoute]] = {}
        types = {**PREDEFINED_EXCHANGES, **{one.name: one.type for one in objects.exchanges}}
        told, chosen = set[str](), set[str]()
        # A queue is only reached by what nobody can tell where no other binding leads to it.
        for one in objects.bindings:
            if one.destination_type == "queue":
                (told if types.get(one.source) in _TOLD else chosen).add(one.destination)
        #: Queues whose messages are chosen by headers, or by a plugin, alone.
        self.untold = frozenset(chosen - told)

    def of(self, exchange: str, key: str) -> Mapping[str, OpenRoute]:
        """The queues to which events published so come, each with the time from which they have.

        That is not remembered of an alternate exchange, whose setting has no time, and of a binding that was there
        before times were remembered.
        """
        if (exchange, key) not in self._known:
            self._known[exchange, key] = self._follow(exchange, key)
        return self._known[exchange, key]

    def _follow(self, exchange: str, key: str) -> Mapping[str, OpenRoute]:
        route = self._router.route(exchange, key)
        if not route.hops:
            return dict.fromkeys(route.queues, _UNSURE)
        hops = [hop for hop in route.hops if hop.type in _TOLD]
        reached, queues = {exchange: OpenRoute(0)}, dict[str, OpenRoute]()
        # An exchange may be reached by an earlier way only after it was followed: so again until nothing changes.
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
