"""Do what was decided of a plan, in an order in which no message is without its place at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, TypeVar

from runner.errors import BrokerError, DeclarationRefused, RunnerError
from runner.topology.change import Change, Mark
from runner.topology.compile import policy_name
from runner.topology.consent import Decision, Left
from runner.topology.effect import Policies, applies
from runner.topology.family import owner_of_policy
from runner.topology.live import BindingKey, Live, LiveBinding, Owned
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue
from runner.topology.plan import STAND_IN
from runner.topology.retire import delete

T = TypeVar("T")


class Broker(Protocol):
    """What is done on a broker; ``runner.amqp.admin`` does it on RabbitMQ."""

    def declare(self, objects: Objects) -> None:
        """Declare what is not there yet. Raises DeclarationRefused."""

    def put_policy(self, policy: Policy) -> None:
        """Create or change a policy."""

    def delete_policy(self, name: str) -> None:
        """Delete a policy."""

    def put_binding(self, binding: Binding) -> None:
        """Create a binding that is not ours."""

    def delete_binding(self, one: LiveBinding) -> None:
        """Delete a binding."""

    def delete_exchange(self, name: str) -> None:
        """Delete an exchange, with its bindings."""

    def in_use(self, name: str) -> str | None:
        """Why a queue is kept: it holds a message, also one in somebody's hands, or has a consumer."""

    def delete_queue(self, queue: Queue) -> None:
        """Delete a queue that is not in use."""

    def move(
        self, queue: Queue, policy: Policy | None, live: Live, objects: Objects, say: Callable[[str], None]
    ) -> None:
        """Replace a queue, with its messages moved into the new one, which has ``policy``."""

    def remember(self, owned: Owned) -> None:
        """Remember what is ours."""


def apply(
    decision: Decision,
    live: Live,
    broker: Broker,
    say: Callable[[str], None] = lambda _: None,
    did: Callable[[Change], None] = lambda _: None,
) -> list[Left]:
    """Do all that was decided; safe to interrupt at any point and to do again.

    Each change is reported to ``did`` once it is done. Returns what is left, and what it needs. Raises RunnerError if
    the broker refuses something; what was done before stays.
    """
    return [*decision.left, *_Application(decision, live, broker, say, did).run()]


class _Application:
    """One run: create, then replace, then remove."""

    def __init__(
        self,
        decision: Decision,
        live: Live,
        broker: Broker,
        say: Callable[[str], None],
        did: Callable[[Change], None],
    ) -> None:
        self._decision, self._live, self._broker, self._say, self._did = decision, live, broker, say, did
        self._replaced = decision.of(Mark.REPLACE)
        self._created = decision.of(Mark.CREATE)
        #: The policies of what is replaced come with the new one: they might drop what the old one holds.
        self._later = {policy_name(one.kind, one.name) for one in self._replaced}
        self._remembered = live.owned
        self._deleted = Owned()

    def run(self) -> list[Left]:
        """Do it; returns what is kept although it is under ``retire``."""
        self._put_policies(is_first=True)
        self._declare()
        self._put_policies(is_first=False)
        for change in self._replaced:
            self._say(f"replacing {change.kind} {change.name}: {change.why}")
            self._replace(change)
            self._did(change)
            self._done_policy(change)
        self._declare_between_replaced()
        for change in self._decision.of(Mark.CHANGE):
            if change.is_removal:
                self._remove(change)
                self._did(change)
        kept = self._retire()
        self._remember_all()
        return kept

    def _policies(self) -> Iterable[tuple[Change, Policy]]:
        for change in (*self._created, *self._decision.of(Mark.CHANGE)):
            if isinstance(change.thing, Policy) and not change.is_removal and change.name not in self._later:
                yield change, change.thing

    def _put_policies(self, *, is_first: bool) -> None:
        """Before a new exchange or queue what is for it; after all that is new what may lead there."""
        new = [one.thing for one in self._created if isinstance(one.thing, Exchange | Queue)]
        names = {("queue" if isinstance(one, Queue) else "exchange", one.name) for one in new}
        for change, policy in self._policies():
            owner = owner_of_policy(policy.name)
            is_for_new = owner in names if owner else any(applies(policy, thing) for thing in new)
            if is_for_new == is_first:
                self._broker.put_policy(policy)
                self._did(change)

    def _declare(self) -> None:
        waits = {(one.kind, one.name) for one in self._replaced}
        made = [one for one in self._created if not isinstance(one.thing, Policy) and not _touches_any(one, waits)]
        new = {one.name for one in made if isinstance(one.thing, Exchange)}
        # First the bindings of an exchange to which nothing leads yet: what arrives there later has a place to go.
        made.sort(key=lambda one: isinstance(one.thing, Binding) and one.thing.source not in new)
        if not made:
            return
        self._declare_changes(made)
        # Only now, so that what was published before a binding was there never counts as brought by it.
        policies = frozenset(one.name for one in self._created if isinstance(one.thing, Policy))
        first = self._live.owned | Owned.of(_objects_of(made)) | Owned(policies=policies)
        self._remember(first.dated(self._live.owned, _now()))

    def _declare_between_replaced(self) -> None:
        waits = {(one.kind, one.name) for one in self._replaced}
        later = [one for one in self._created if isinstance(one.thing, Binding) and _touches_any(one, waits)]
        if later:
            self._declare_changes(later)
            dated = (self._remembered | Owned.of(_objects_of(later))).dated(self._remembered, _now())
            self._remember(dated)

    def _declare_changes(self, changes: list[Change]) -> None:
        try:
            self._broker.declare(_objects_of(changes))
        except DeclarationRefused as error:
            # The broker took all the others.
            refused = {(one.kind, one.name) for one in (Change(Mark.CREATE, thing) for thing in error.things)}
            done = [one for one in changes if (one.kind, one.name) not in refused] if refused else []
            for change in done:
                self._did(change)
            with suppress(RunnerError):
                self._remember((self._remembered | Owned.of(_objects_of(done))).dated(self._remembered, _now()))
            raise
        except BrokerError:
            self._say(f"interrupted: it is not known which of {len(changes)} were made; the next plan shows it")
            raise
        for change in changes:
            self._did(change)

    def _done_policy(self, replaced: Change) -> None:
        name = policy_name(replaced.kind, replaced.name)
        for change in (*self._created, *self._decision.of(Mark.CHANGE)):
            if change.name == name and not change.is_removal:
                self._did(change)

    def _remove(self, change: Change) -> None:
        if isinstance(change.thing, Binding):
            self._broker.delete_binding(self._live.bindings[change.thing.key])
        else:
            self._broker.delete_policy(change.name)

    def _retire(self) -> list[Left]:
        changes = self._decision.of(Mark.RETIRE)
        self._deleted, kept = delete(changes, self._broker.in_use, self._delete_one, self._did)
        return [Left(change, reason) for change, reason in kept]

    def _delete_one(self, change: Change) -> None:
        thing = change.thing
        if isinstance(thing, Queue):
            self._broker.delete_queue(thing)
        elif isinstance(thing, Binding):
            self._broker.delete_binding(self._live.bindings[thing.key])
        elif isinstance(thing, Exchange):
            self._broker.delete_exchange(thing.name)
        else:
            self._broker.delete_policy(thing.name)

    def _remember(self, owned: Owned) -> None:
        self._broker.remember(owned)
        self._remembered = owned

    def _remember_all(self) -> None:
        live, first, gone = self._live, self._remembered, self._deleted
        owned = self._decision.owned(live)
        removed = self._removed()
        policies = {one.name for one in self._decision.target.policies}
        owned = Owned(
            owned.exchanges - gone.exchanges,
            owned.queues - gone.queues,
            (owned.policies - gone.policies) & (live.policies.keys() | policies),
            owned.bindings - removed - gone.bindings,
        )
        if owned != live.owned or first != live.owned:
            times = {**first.since, **live.owned.since}
            known = replace(first, bindings=first.bindings | live.owned.bindings, since=times)
            self._broker.remember(owned.dated(known, _now()))

    def _removed(self) -> set[BindingKey]:
        """The bindings that topology.yaml no longer says."""
        going = [one.thing for one in self._decision.of(Mark.CHANGE) if one.is_removal]
        return {one.key for one in going if isinstance(one, Binding)}

    def _replace(self, change: Change) -> None:
        thing = change.thing
        name = policy_name(change.kind, change.name)
        policy = next((one for one in self._decision.target.policies if one.name == name), None)
        if isinstance(thing, Queue):
            self._broker.move(thing, policy, self._live, self._decision.target, self._say)
        elif isinstance(thing, Exchange):
            self._replace_exchange(thing, policy)
        else:
            raise RunnerError(f"{change.kind} {change.name!r}: cannot be replaced; allowed: exchanges and queues")

    def _replace_exchange(self, thing: Exchange, policy: Policy | None) -> None:
        """Replace an exchange while another one, bound as it will be, does its work for the exchanges before it."""
        broker, bindings = self._broker, self._bindings_of(thing.name)
        alternate = Policies(self._decision.target.policies).settings_of(thing).get("alternate-exchange")
        arguments = dict(thing.arguments) | ({"alternate-exchange": alternate} if alternate is not None else {})
        stand_in = replace(thing, name=f"{thing.name}{STAND_IN}", arguments=arguments, auto_delete=False)
        there = self._live.exchanges.get(stand_in.name)
        if there is not None and there != stand_in and thing.name in self._live.exchanges:
            broker.delete_exchange(stand_in.name)
        # What the broker does not take it refuses now, while the old one is still there. Bound first to what it leads
        # to, then to what leads to it.
        moved = [_moved(one, thing.name, stand_in.name) for one in bindings]
        moved.sort(key=lambda one: _leads_to(one, stand_in.name))
        if there is None or thing.name in self._live.exchanges:
            broker.declare(Objects((stand_in,), (), tuple(moved)))
        if policy is not None:
            broker.put_policy(policy)
        broker.delete_exchange(thing.name)
        bindings.sort(key=lambda one: _leads_to(one, thing.name))
        broker.declare(Objects((thing,), (), tuple(bindings)))
        broker.delete_exchange(stand_in.name)

    def _bindings_of(self, exchange: str) -> list[Binding]:
        """All that an exchange is bound to afterwards: what it is bound to now, and what topology.yaml adds."""
        stand_in = f"{exchange}{STAND_IN}"
        there = [one.binding for one in self._live.bindings.values()]
        moved = [_moved(one, stand_in, exchange) for one in there if _touches(one, stand_in)]
        found = {one.key: one for one in (*moved, *there) if _touches(one, exchange)}
        # Ours that topology.yaml no longer says, of things that it still says, are not made again.
        said = {one.key for one in self._decision.target.bindings}
        gone = self._removed() | {key for key in self._live.owned.bindings - said if key not in self._live.bindings}
        waits = {("queue", one.name) for one in self._replaced if one.kind == "queue"}
        for one in self._decision.target.bindings:
            # A queue that is replaced later is set aside with the bindings that it has by then.
            if _touches(one, exchange) and (one.destination_type, one.destination) not in waits | self._absent_queues():
                found.setdefault(one.key, one)
        replaced = {one.name for one in self._replaced if one.kind == "exchange"}
        later = {name for name in replaced if name != exchange and name not in self._live.exchanges}
        return [
            one
            for key, one in found.items()
            if key not in gone and one.source not in later and one.destination not in later
        ]

    def _absent_queues(self) -> set[tuple[str, str]]:
        queues = self._live.queues.keys() | {one.name for one in self._created if one.kind == "queue"}
        return {("queue", one.name) for one in self._decision.target.queues if one.name not in queues}


def _now() -> int:
    return int(time.time() * 1000)


def _objects_of(changes: Iterable[Change]) -> Objects:
    things = [one.thing for one in changes]
    return Objects(tuple(_only(things, Exchange)), tuple(_only(things, Queue)), tuple(_only(things, Binding)))


def _only(things: Iterable[object], kind: type[T]) -> Iterable[T]:
    return (one for one in things if isinstance(one, kind))


def _touches_any(change: Change, things: set[tuple[str, str]]) -> bool:
    one = change.thing
    if not isinstance(one, Binding):
        return False
    return ("exchange", one.source) in things or (one.destination_type, one.destination) in things


def _touches(binding: Binding, exchange: str) -> bool:
    return exchange == binding.source or _leads_to(binding, exchange)


def _leads_to(binding: Binding, exchange: str) -> bool:
    return (binding.destination_type, binding.destination) == ("exchange", exchange)


def _moved(binding: Binding, old: str, new: str) -> Binding:
    source = new if binding.source == old else binding.source
    destination = new if _leads_to(binding, old) else binding.destination
    return replace(binding, source=source, destination=destination)
