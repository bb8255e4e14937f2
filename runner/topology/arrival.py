"""To which queues an event has been brought, and since when its way there has been open."""

from __future__ import annotations

from collections.abc import Mapping

from runner.config.topology import PREDEFINED_EXCHANGES
from runner.topology.live import BindingKey
from runner.topology.match import Router
from runner.topology.model import Objects

#: The types of exchanges whose choice an exchange's name and a routing key tell.
_TOLD = ("direct", "fanout", "topic")


class Arrivals:
    """Follows events through the bindings of a topology that are on the broker."""

    def __init__(self, objects: Objects, since: Mapping[BindingKey, int]) -> None:
        """``since`` is what the broker remembers of when a binding was made; nothing for one of which it does not."""
        self._router, self._since = Router(objects), since
        self._known: dict[tuple[str, str], Mapping[str, int | None]] = {}
        types = {**PREDEFINED_EXCHANGES, **{one.name: one.type for one in objects.exchanges}}
        told, chosen = set[str](), set[str]()
        # A queue is only reached by what nobody can tell where no other binding leads to it.
        for one in objects.bindings:
            if one.destination_type == "queue":
                (told if types.get(one.source) in _TOLD else chosen).add(one.destination)
        #: Queues whose messages are chosen by headers, or by a plugin, alone.
        self.untold = frozenset(chosen - told)

    def of(self, exchange: str, key: str) -> Mapping[str, int | None]:
        """The queues, each with the time in ms since the epoch from which events published so have come to it.

        None for one of which that is not remembered: by an alternate exchange, whose setting has no time, or by a
        binding that was there before times were remembered.
        """
        if (exchange, key) not in self._known:
            self._known[exchange, key] = self._follow(exchange, key)
        return self._known[exchange, key]

    def _follow(self, exchange: str, key: str) -> Mapping[str, int | None]:
        route = self._router.route(exchange, key)
        if not route.hops:
            return dict.fromkeys(route.queues)
        reached: dict[str, int | None] = {exchange: 0}
        queues: dict[str, int | None] = {}
        for hop in route.hops:
            if hop.exchange not in reached or hop.type not in _TOLD:
                continue
            here = reached[hop.exchange]
            for one in hop.bindings:
                time = self._since.get(one.key)
                both = None if here is None or time is None else max(here, time)
                found = reached if one.destination_type == "exchange" else queues
                earlier = found.get(one.destination)
                found[one.destination] = both if earlier is None else min(earlier, both or earlier)
            if hop.alternate is not None:
                reached.setdefault(hop.alternate, None)
        return {name: queues[name] for name in route.queues if name in queues}
