"""The routes that held-back objects still need. Removing an object from one of these routes would lose messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from runner.topology.effective_settings import Policies
from runner.topology.live import Live
from runner.topology.model import Binding, Exchange, Node, Objects, Queue

Edges = Mapping[Node, set[Node]]


class Passages:
    """The exchanges and queues on routes that held-back objects need, each with the name of its held-back object."""

    def __init__(
        self, objects: Objects, live: Live, held: Mapping[Node, str], open_bindings: Iterable[tuple[Binding, str]]
    ) -> None:
        """Find the routes that ``held`` objects and ``open_bindings`` need.

        Both arguments also contain the name of the object for which each held-back object or binding waits.
        """
        self._live, self._held = live, held
        #: The alternate exchanges and dead-letter targets, both in topology.yaml and on the broker.
        self._leads, self._led = (
            references(objects.exchanges, objects.queues, Policies(objects.policies, live.version or None)),
            references(
                live.exchanges.values(),
                [one.queue for one in live.queues.values()],
                Policies(live.policies.values(), live.version or None),
            ),
        )
        self._wanted = _edges(objects.bindings, self._leads)
        self._there = _edges([one.binding for one in live.bindings.values()], self._led)
        starts = {node: cause for node, cause in held.items() if node[0] == "exchange"}
        ends = dict(starts)
        for binding, cause in open_bindings:
            starts.setdefault(("exchange", binding.source), cause)
            ends.setdefault((binding.destination_type, binding.destination), cause)
        routes = {start: to for start, to in self._wanted.items() if start[0] == "exchange"}
        #: The objects to which topology.yaml routes more messages than the broker currently routes.
        self._short = _reached(ends, routes)
        #: The exchanges with a route in topology.yaml that does not yet exist on the broker.
        self.sources = {name: cause for (_, name), cause in _reached(starts, _reversed(routes)).items()}
        #: The objects that messages can currently reach from held-back objects.
        self._used = _reached(held, self._there)
        there = {("queue", name) for name in live.queues} | {("exchange", name) for name in live.exchanges}
        self._missing = {node: cause for node, cause in held.items() if node not in there}

    def carries(self, binding: Binding) -> str:
        """Return the name of the held-back object that needs this binding, or "" if there is none."""
        return self._carries(("exchange", binding.source), (binding.destination_type, binding.destination))

    def diverts(self, binding: Binding) -> str:
        """Return the name of the held-back object for which a new binding must wait, or "" if there is none.

        The new binding would divert messages from an alternate exchange before its source exchange has another route.
        """
        source = ("exchange", binding.source)
        return self.sources.get(binding.source, "") if source in self._led or source in self._leads else ""

    def _carries(self, source: Node, destination: Node) -> str:
        return self._short.get(destination) or self.sources.get(source[1]) or self._used.get(source) or ""

    def needs(self, node: Node) -> str:
        """Return the name of the held-back object that needs this exchange or queue, or "" if there is none."""
        if node in self._used:
            return self._used[node]
        if node[0] == "exchange" and node[1] in self.sources:
            return self.sources[node[1]]
        for one in self._live.bindings.values():
            ends = ("exchange", one.binding.source), (one.binding.destination_type, one.binding.destination)
            if node in ends:
                cause = next((self._held[end] for end in ends if end in self._held), "") or self.carries(one.binding)
                if cause:
                    return cause
        return ""

    def carries_through(self, exchange: Exchange) -> str:
        """Return the name of the held-back object that needs this exchange unchanged, or "" if there is none."""
        node = ("exchange", exchange.name)
        nodes = {node, *self._wanted.get(node, ()), *self._there.get(node, ())}
        return self.sources.get(exchange.name) or next((self._short[one] for one in nodes if one in self._short), "")

    def leads_astray(self, node: Node) -> str:
        """Return the name of the held-back object that needs the alternate or dead-letter target of this node.

        Return an empty string if there is none.
        """
        wanted, there = self._leads.get(node, set()), self._led.get(node, set())
        for target in wanted - there:
            if target in self._missing:
                return self._missing[target]
            if target[0] == "exchange" and target[1] in self.sources:
                return self.sources[target[1]]
        for target in there - wanted:
            if node[0] == "exchange" and (cause := self._carries(node, target)):
                return cause
        return ""


def references(exchanges: Iterable[Exchange], queues: Iterable[Queue], policies: Policies) -> dict[Node, set[Node]]:
    """Return the alternate exchange of each exchange, and the dead-letter exchange or queue of each queue."""
    result: dict[Node, set[Node]] = {}
    for exchange in exchanges:
        alternate = policies.settings_of(exchange).get("alternate-exchange")
        if alternate is not None:
            result[("exchange", exchange.name)] = {("exchange", str(alternate))}
    for queue in queues:
        settings = policies.settings_of(queue)
        through, key = settings.get("dead-letter-exchange"), settings.get("dead-letter-routing-key")
        if through:
            result[("queue", queue.name)] = {("exchange", str(through))}
        elif through == "" and key is not None:
            result[("queue", queue.name)] = {("queue", str(key))}
    return result


def _edges(bindings: Iterable[Binding], references: Edges) -> dict[Node, set[Node]]:
    result: dict[Node, set[Node]] = defaultdict(set)
    for one in bindings:
        result[("exchange", one.source)].add((one.destination_type, one.destination))
    for node, targets in references.items():
        result[node] |= targets
    return result


def _reversed(edges: Edges) -> Edges:
    result: dict[Node, set[Node]] = defaultdict(set)
    for start, ends in edges.items():
        for end in ends:
            if end[0] == "exchange":
                result[end].add(start)
    return result


def _reached(starts: Mapping[Node, str], edges: Edges) -> dict[Node, str]:
    """Return all reachable objects, each with the name that its starting point has in ``starts``."""
    found = dict(starts)
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        for other in edges.get(node, ()):
            if other not in found:
                found[other] = found[node]
                waiting.append(other)
    return found


def upstream_ranks(bindings: Iterable[Binding]) -> dict[str, int]:
    """Return the rank of each exchange, in the order in which messages reach exchanges.

    Ranks within a cycle are arbitrary. Bindings are created in reverse rank order and removed in rank order, so that no
    message reaches an exchange without a route to a queue.
    """
    following: dict[str, list[str]] = defaultdict(list)
    for one in bindings:
        following[one.source] += [one.destination] if one.destination_type == "exchange" else []
    ended: dict[str, None] = {}
    seen: set[str] = set()
    for start in list(following):
        path = [(start, iter(following[start]))] if start not in seen else []
        seen.add(start)
        while path:
            name, rest = path[-1]
            other = next((one for one in rest if one not in seen), None)
            if other is None:
                ended[name] = None
                path.pop()
            else:
                seen.add(other)
                path.append((other, iter(following.get(other, ()))))
    return {name: place for place, name in enumerate(reversed(ended))}
