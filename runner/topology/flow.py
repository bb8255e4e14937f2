"""The flow of routing keys from services, through exchanges and dead-letter exchanges, to queues."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from runner.config.config_file import ServiceSettings, template_words
from runner.topology.effective_settings import Policies
from runner.topology.key_suggestion import may_match
from runner.topology.model import Binding, Objects
from runner.topology.offline_routing import alternates_of, routing_types

#: The words of a routing key. None stands for any single word.
Words = tuple[str | None, ...]
#: Any routing key, such as the key of a dead letter or of an unrouted message.
ANY: Words = ("#",)


@dataclass(frozen=True)
class Reach:
    """The queues that a message may reach."""

    #: The queues that can be reached through bindings alone.
    bound: frozenset[str] = frozenset()
    #: The queues that can be reached through an alternate exchange.
    alternate: frozenset[str] = frozenset()

    @property
    def queues(self) -> frozenset[str]:
        """All reachable queues."""
        return self.bound | self.alternate


@dataclass(frozen=True)
class DeadLetterRoute:
    """The target of a queue's dead letters, and the queues that the dead letters reach."""

    target: str
    queues: frozenset[str]


class Flow:
    """The routes of all routing keys that services publish, including keys with unknown words."""

    def __init__(self, objects: Objects, services: Mapping[str, ServiceSettings]) -> None:
        policies = Policies(objects.policies)
        self._types = routing_types(objects)
        self._queues = {one.name for one in objects.queues}
        self._settings = {one.name: policies.settings_of(one) for one in objects.queues}
        self._alternates = alternates_of(objects)
        self._from: dict[str, list[Binding]] = defaultdict(list)
        for binding in objects.bindings:
            self._from[binding.source].append(binding)
        #: The keys of all bindings that a message may match, and the exchanges that a message may reach.
        self.used: set[object] = set()
        self.fed: set[str] = set()
        self._keys: dict[str, set[Words]] = defaultdict(set)
        bound: set[str] = set()
        for service in services.values():
            for exchange, templates in service.publishes.items():
                for template in templates:
                    bound |= self._note(exchange, template_words(template)).bound
        fallback: set[str] = set()
        for name in self._alternates.values():
            fallback |= self._note(name, ANY).queues
        for name in sorted(self._queues):
            route = self._dead_letters(name)
            if route is not None and route[0]:
                fallback |= self._note(*route).queues
        #: The queues that get only dead letters and unrouted messages, and therefore need no service.
        self.only_fallback = fallback - bound

    def _note(self, exchange: str, words: Words) -> Reach:
        return self.reach(exchange, words, note=True)

    def reach(self, exchange: str, words: Words, *, note: bool = False) -> Reach:
        """Return the queues that a key with these words may reach from ``exchange``."""
        queues: set[str] = set()
        by_alternate: set[str] = set()
        seen: set[str] = set()
        waiting = [(exchange, words, False)]
        while waiting:
            name, key, is_alternate = waiting.pop()
            if name in seen or name not in self._types:
                continue
            seen.add(name)
            matching = [one for one in self._from[name] if self._may_match(one, self._types[name], key)]
            if note:
                self.fed.add(name)
                self._keys[name].add(key)
                self.used.update(one.key for one in matching)
            for one in matching:
                if one.destination_type == "exchange":
                    waiting.append((one.destination, key, is_alternate))
                elif one.destination in self._queues:
                    (by_alternate if is_alternate else queues).add(one.destination)
            if not matching and name in self._alternates:
                waiting.append((self._alternates[name], key, True))
        return Reach(frozenset(queues), frozenset(by_alternate))

    def keys_at(self, exchange: str) -> list[Words]:
        """Return the routing keys that may reach an exchange, except ANY."""
        return sorted(self._keys[exchange] - {ANY}, key=str)

    def _may_match(self, binding: Binding, kind: str, words: Words) -> bool:
        if words == ANY:
            return True
        if kind == "topic":
            return may_match(binding.routing_key, words)
        if kind == "direct":
            key = binding.routing_key.split(".")
            return len(key) == len(words) and all(one in (None, other) for one, other in zip(words, key, strict=True))
        return True  # fanout, headers (the values are unknown), and types from plugins

    def _dead_letters(self, queue: str) -> tuple[str, Words] | None:
        settings = self._settings[queue]
        exchange = settings.get("dead-letter-exchange")
        if not isinstance(exchange, str):
            return None
        key = settings.get("dead-letter-routing-key")
        return exchange, tuple(key.split(".")) if isinstance(key, str) else ANY

    def dead_letter_route(self, queue: str) -> DeadLetterRoute | None:
        """Return the route of a queue's dead letters, or None if the queue has no dead-letter exchange."""
        route = self._dead_letters(queue)
        if route is None:
            return None
        exchange, words = route
        if exchange:
            return DeadLetterRoute(f"exchange {exchange!r}", self.reach(exchange, words).queues)
        if words == ANY:
            # The default exchange routes by queue name, but a published routing key is not a queue name.
            return DeadLetterRoute("the default exchange with its original routing key", frozenset())
        key = ".".join(str(one) for one in words)
        return DeadLetterRoute(f"queue {key!r}", frozenset({key} & self._queues))

    def dead_letter_cycle(self, queue: str) -> list[str]:
        """Return the queues through which dead letters return to ``queue``, or an empty list if there is no cycle."""
        came_from: dict[str, str | None] = {queue: None}
        waiting = [queue]
        while waiting:
            name = waiting.pop(0)
            route = self.dead_letter_route(name)
            for target in sorted(route.queues if route is not None else ()):
                if target == queue:
                    way = [name]
                    while (before := came_from[way[0]]) is not None:
                        way.insert(0, before)
                    return way
                if target not in came_from:
                    came_from[target] = name
                    waiting.append(target)
        return []
