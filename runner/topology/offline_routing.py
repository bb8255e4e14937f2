"""RabbitMQ's message routing, computed without a broker.

The rules are from the AMQP 0-9-1 specification (3.1.3) and from RabbitMQ's guides "Exchange to Exchange Bindings" and
"Alternate Exchanges". A test compares the results with those of a real broker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.config.exchange_type import routing_type
from runner.config.topology_file import PREDEFINED_EXCHANGES
from runner.topology.effective_settings import Policies
from runner.topology.model import Binding, Objects


@dataclass(frozen=True)
class Hop:
    """One exchange on the route of a message, with its matching bindings."""

    exchange: str
    type: str
    bindings: tuple[Binding, ...]
    #: The routing type, which differs from ``type`` for an exchange that delays messages.
    behind: str
    #: The alternate exchange that gets the message if no binding matches.
    alternate: str | None = None


@dataclass(frozen=True)
class Route:
    """The complete route of a message."""

    hops: tuple[Hop, ...]
    #: The queues in the order in which they are reached. Each queue gets one copy.
    queues: tuple[str, ...]


def words_of(key: str) -> list[str]:
    """Return the words in a topic routing key or pattern. An empty key has no words."""
    return key.split(".") if key else []


def matches_topic(pattern: str, words: Sequence[str | None]) -> bool:
    """Return True if a topic pattern matches a key with these words.

    ``*`` matches one word, and ``#`` matches any number of words. None in ``words`` stands for an unknown word. If the
    key contains unknown words, the result is True if the pattern might match.
    """
    # The positions in the key that the processed part of the pattern can reach.
    reached = {0}
    for part in words_of(pattern):
        if part == "#":
            reached = set(range(min(reached), len(words) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(words) and (part == "*" or words[at] in (part, None))}
        if not reached:
            return False
    return len(words) in reached


def matches_headers(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    """Return True if a headers exchange's binding matches these headers.

    ``x-match`` is ``all`` (the default), ``any``, ``all-with-x`` or ``any-with-x``. Names that start with ``x-`` are
    compared only if this value ends in ``with-x``. An argument without a value requires only that the header exists.
    """
    mode = arguments.get("x-match", "all")
    with_x = str(mode).endswith("-with-x")
    wanted = [
        (name, value)
        for name, value in arguments.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    ]
    found = (name in headers and (value is None or _is_same(value, headers[name])) for name, value in wanted)
    return any(found) if str(mode).startswith("any") else all(found)


def _is_same(wanted: Any, value: Any) -> bool:
    # Values of different types, such as True and 1, never match.
    return type(wanted) is type(value) and bool(wanted == value)


def matches(binding: Binding, exchange_type: str, key: str, headers: Mapping[str, Any]) -> bool:
    """Return True if a binding of an exchange of this type matches a message."""
    match exchange_type:
        case "direct":
            return binding.routing_key == key
        case "topic":
            return matches_topic(binding.routing_key, words_of(key))
        case "headers":
            return matches_headers(binding.arguments, headers)
        case _:
            # A fanout exchange always matches. Other types depend on chance, a hash or a plugin, and may match.
            return True


class OfflineRouter:
    """A router that traces messages through the exchanges and bindings of a topology."""

    def __init__(self, objects: Objects) -> None:
        self._types = {**PREDEFINED_EXCHANGES, **{one.name: one.type for one in objects.exchanges}}
        self._routing = routing_types(objects)
        self._queues = {one.name for one in objects.queues}
        self._bindings: dict[str, list[Binding]] = defaultdict(list)
        for binding in objects.bindings:
            self._bindings[binding.source].append(binding)
        self._alternates = alternates_of(objects)

    def route(self, exchange: str, key: str, headers: Mapping[str, Any] | None = None) -> Route:
        """Return the route of a message that is published to ``exchange``. An empty name means the default exchange."""
        if exchange == "":
            return Route((), (key,) if key in self._queues else ())
        hops: list[Hop] = []
        queues: dict[str, None] = {}
        seen, waiting = {exchange}, [exchange]
        while waiting:
            name = waiting.pop(0)
            if name not in self._types:
                continue  # messages to a missing exchange are dropped, even if it is an alternate exchange
            hop = self._hop(name, key, headers or {})
            hops.append(hop)
            following = [one.destination for one in hop.bindings if one.destination_type == "exchange"]
            for one in hop.bindings:
                if one.destination_type == "queue" and one.destination in self._queues:
                    queues[one.destination] = None
            for name in [*following, *([hop.alternate] if hop.alternate is not None else [])]:
                # Each exchange is visited once, so the loop terminates even if bindings form a cycle.
                if name not in seen:
                    seen.add(name)
                    waiting.append(name)
        return Route(tuple(hops), tuple(queues))

    def _hop(self, name: str, key: str, headers: Mapping[str, Any]) -> Hop:
        kind, behind = self._types[name], self._routing[name]
        matching = tuple(one for one in self._bindings[name] if matches(one, behind, key, headers))
        # The alternate exchange is used only if no binding of this exchange matches. It is not used if a binding leads
        # to an exchange that drops the message.
        return Hop(name, kind, matching, behind, None if matching else self._alternates.get(name))


def routing_types(objects: Objects) -> dict[str, str]:
    """Return the routing type of each exchange, including the predefined exchanges."""
    own = {one.name: routing_type(one.type, one.arguments) for one in objects.exchanges}
    return {**PREDEFINED_EXCHANGES, **own}


def alternates_of(objects: Objects) -> dict[str, str]:
    """Return each exchange's alternate exchange, if an argument or a policy sets one."""
    policies = Policies(objects.policies)
    found = ((one.name, policies.settings_of(one).get("alternate-exchange")) for one in objects.exchanges)
    return {name: alternate for name, alternate in found if isinstance(alternate, str)}
