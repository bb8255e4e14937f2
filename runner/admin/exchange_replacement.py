"""The replacement of exchanges. Stand-in exchanges with the same bindings route the messages during the replacement."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.config.exchange_type import routing_type
from runner.topology.compile import policy_name
from runner.topology.effective_settings import Policies
from runner.topology.live import DRAIN_SUFFIXES, STAND_IN, BindingKey, Live, is_entrance
from runner.topology.model import Binding, Exchange, Objects
from runner.topology.offline_routing import matches

if TYPE_CHECKING:
    from runner.admin.administrator import Administrator


class ExchangeReplacement:
    """A replacement of one or more exchanges."""

    def __init__(
        self,
        exchanges: Collection[Exchange],
        target: Objects,
        live: Live,
        removed: Collection[BindingKey],
        broker: Administrator,
    ) -> None:
        """``removed`` contains the keys of bindings to remove. ``target`` is the broker's desired state."""
        self._exchanges, self._target, self._live, self._broker = exchanges, target, live, broker
        self._stand_ins = {one.name: f"{one.name}{STAND_IN}" for one in exchanges}
        said = {one.key for one in target.bindings}
        ends = {("queue", one.name) for one in target.queues} | {("exchange", one.name) for one in target.exchanges}
        # An interrupted replacement may have removed bindings that are no longer in topology.yaml. These bindings are
        # not recreated. A queue that is not in topology.yaml remains bound, for example before it is renamed.
        absent = live.owned.bindings - said - live.bindings.keys()
        self._gone = {*removed, *(key for key in absent if (key[1], key[2]) in ends)}
        self._policies = {one.name: one for one in target.policies}

    def run(self) -> None:
        """Replace the exchanges. If the broker refuses an exchange, raise DeclarationRefused before any deletion."""
        bindings = list(self._bindings())
        self._declare_stand_ins(bindings)
        # A route through several of the exchanges must survive the deletion of the first exchange.
        present = [self._live.exchanges[one.name] for one in self._exchanges if one.name in self._live.exchanges]
        keys = [*bindings, *self._removed_keys(bindings)]
        self._broker.declare(Objects(bindings=tuple(way for one in present for way in self._entrance(one, keys))))
        for exchange in self._exchanges:
            # While an exchange has no bindings, the broker returns mandatory messages only if there is no alternate
            # exchange. If there is an alternate exchange, the broker accepts a message, but routes it to the wrong
            # queue.
            if policy_name("exchange", exchange.name) in self._live.policies:
                self._broker.delete_policy(policy_name("exchange", exchange.name))
            self._broker.delete_exchange(exchange.name)
            self._broker.declare(Objects((exchange,), (), tuple(self._entrance(exchange, bindings))))
        self._broker.declare(Objects(bindings=tuple(self._inmost_first(bindings, self._stand_ins))))
        for exchange in self._exchanges:
            if (policy := self._policies.get(policy_name("exchange", exchange.name))) is not None:
                self._broker.put_policy(policy)
        for stand_in in self._stand_ins.values():
            self._broker.delete_exchange(stand_in)

    def _declare_stand_ins(self, bindings: list[Binding]) -> None:
        live, made = self._live.exchanges, []
        policies = Policies(self._target.policies, self._live.version or None)
        for exchange in self._exchanges:
            alternate = policies.settings_of(exchange).get("alternate-exchange")
            arguments = dict(exchange.arguments) | ({} if alternate is None else {"alternate-exchange": alternate})
            stand_in = replace(exchange, name=self._stand_ins[exchange.name], arguments=arguments, auto_delete=False)
            there = live.get(stand_in.name)
            if there is not None and there != stand_in:
                if exchange.name not in live:
                    continue  # only the stand-in still routes messages
                self._broker.delete_exchange(stand_in.name)
            made.append(stand_in)
        moved = [_moved(one, self._stand_ins) for one in bindings]
        names = self._stand_ins.values()
        # If the broker refuses a stand-in, the old exchanges still exist.
        self._broker.declare(Objects(tuple(made), (), tuple(self._inmost_first(moved, names))))

    def _removed_keys(self, bindings: list[Binding]) -> Iterable[Binding]:
        """Yield the removed bindings whose messages the new exchanges route in another way.

        An old direct exchange needs an entrance for their keys too. Otherwise, its alternate exchange would get these
        messages as soon as the destination of such a binding is deleted. The alternate exchange also gets the messages
        that the stand-in cannot route, so other removed bindings need no entrance.
        """
        for exchange in self._exchanges:
            kind = routing_type(exchange.type, exchange.arguments)
            ways = [one for one in bindings if one.source == exchange.name]
            for one in (there.binding for there in self._live.bindings.values()):
                # A headers exchange may route any key.
                if one.source == exchange.name and any(
                    kind == "headers" or matches(way, kind, one.routing_key, {}) for way in ways
                ):
                    yield one

    def _entrance(self, exchange: Exchange, bindings: Iterable[Binding]) -> Iterable[Binding]:
        """Return the bindings through which the stand-in gets every message.

        Other bindings are created one by one, so a message could reach only some of its queues and still be confirmed.
        An exchange whose type comes from a plugin has no binding that matches every message.
        """
        ways: list[tuple[str, dict[str, str]]] = []
        match exchange.type:
            case "topic":
                ways = [("#", {})]
            case "fanout":
                ways = [("", {})]
            case "headers":
                ways = [("", {"x-match": "all"})]  # without headers to compare, every message matches
            case "direct":
                ways = [
                    (key, {}) for key in sorted({one.routing_key for one in bindings if one.source == exchange.name})
                ]
        stand_in = self._stand_ins[exchange.name]
        return [Binding(exchange.name, stand_in, "exchange", key, arguments) for key, arguments in ways]

    def _inmost_first(self, bindings: Iterable[Binding], names: Iterable[str]) -> list[Binding]:
        """Sort bindings. The bindings through which messages arrive are last, so that each message has a route."""
        inner = set(names)
        return sorted(bindings, key=lambda one: _end(one) in inner and one.source not in inner)

    def _bindings(self) -> Iterable[Binding]:
        """Yield the bindings of the new exchanges, both the current bindings and the bindings to add."""
        back = {stand_in: name for name, stand_in in self._stand_ins.items()}
        found: dict[BindingKey, Binding] = {}
        for one in (*(there.binding for there in self._live.bindings.values()), *self._target.bindings):
            if is_entrance(one):
                continue
            binding = _moved(one, back)
            if binding.source in self._stand_ins or _end(binding) in self._stand_ins:
                found.setdefault(binding.key, binding)
        exchanges = self._live.exchanges.keys() | {one.name for one in self._target.exchanges}
        created = {one.name for one in self._target.queues} - self._absent_queues()
        queues = self._live.queues.keys() | created
        for key, binding in found.items():
            ends = queues if binding.destination_type == "queue" else exchanges
            if key not in self._gone and binding.source in exchanges and binding.destination in ends:
                yield binding

    def _absent_queues(self) -> set[str]:
        """Return the queues that an interrupted replacement has deleted, and that must be bound again."""
        aside = {name.removesuffix(suffix) for name in self._live.queues for suffix in DRAIN_SUFFIXES}
        return {one.name for one in self._target.queues if one.name in aside and one.name not in self._live.queues}


def _end(binding: Binding) -> str:
    """Return the name of the binding's destination exchange, or an empty string if the destination is a queue."""
    return binding.destination if binding.destination_type == "exchange" else ""


def _moved(binding: Binding, names: dict[str, str]) -> Binding:
    end = _end(binding)
    return replace(
        binding,
        source=names.get(binding.source, binding.source),
        destination=names.get(end, binding.destination),
    )
