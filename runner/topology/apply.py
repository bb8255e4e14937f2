"""Do what a plan says, in an order in which no message is without its place at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from runner.errors import RunnerError
from runner.topology.change import INTERRUPTED, Change, Mark, Plan, counted
from runner.topology.compile import policy_name
from runner.topology.live import Live, LiveBinding, Owned
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue
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


@dataclass(frozen=True)
class Consent:
    """What a person asked for beyond what is safe."""

    #: Exchanges and queues that may be deleted and made anew.
    replace: frozenset[str] = frozenset()
    #: Whether a queue's messages are moved into the new one.
    drain: bool = False
    #: Whether what is under ``retire`` may be deleted.
    retire: bool = False


def left_over(plan: Plan, consent: Consent, objects: Objects) -> list[tuple[Change, str]]:
    """What of a plan is not done with this consent, and what it would need."""
    result = []
    consent = _widened(consent, objects)
    undone = {change.name for change in plan.of(Mark.REPLACE) if not _is_agreed(change, consent)}
    for change in plan.of(Mark.REPLACE):
        if any(change.name in _wait_queues(name, objects) for name in undone):
            continue  # it comes with its queue
        drain = " --drain" if change.kind == "queue" else ""
        if not _is_agreed(change, consent):
            needs = f"change it back, or: python -m runner apply --replace {change.name}{drain}"
            if change.name in consent.replace:
                held = counted(change.messages, "message")
                needs = f"it holds {held}: add --drain, which moves them into the new one"
            elif change.why == INTERRUPTED:
                needs = f"python -m runner apply --replace {change.name}{drain}"
            result.append((change, needs))
    if not consent.retire:
        result += [(change, "python -m runner apply deletes it") for change in plan.of(Mark.RETIRE)]
    return result


def in_place(plan: Plan, consent: Consent, objects: Objects) -> list[Change]:
    """The changes in place that are done with this consent.

    Not those of the policy of something that would have to be replaced and is not: what it is now has the policy that
    fits it.
    """
    consent = _widened(consent, objects)
    undone = (one for one in plan.of(Mark.REPLACE) if not _is_agreed(one, consent))
    kept = {policy_name(one.kind, one.name) for one in undone}
    return [one for one in plan.of(Mark.CHANGE) if one.name not in kept]


def _widened(consent: Consent, objects: Objects) -> Consent:
    """With the wait queues of each queue that may be replaced: nobody wrote them, so nobody need name them."""
    waiting = {name for one in consent.replace for name in _wait_queues(one, objects)}
    return replace(consent, replace=consent.replace | waiting)


def _wait_queues(queue: str, objects: Objects) -> frozenset[str]:
    ladder = objects.ladders.get(queue)
    return frozenset(name for _, name in ladder.steps) if ladder is not None else frozenset()


def _is_agreed(change: Change, consent: Consent) -> bool:
    return change.name in consent.replace and (consent.drain or change.messages == 0)


def apply(
    plan: Plan, objects: Objects, live: Live, broker: Broker, consent: Consent, say: Callable[[str], None]
) -> list[tuple[Change, str]]:
    """Do all of ``plan`` that ``consent`` covers; safe to interrupt at any point and to do again.

    Returns what is left, and what it would need. Raises RunnerError where the broker refuses something; what was done
    before stays.
    """
    consent = _widened(consent, objects)
    undone = tuple(one for one in plan.of(Mark.REPLACE) if not _is_agreed(one, consent))
    changes = in_place(plan, consent, objects)
    # A policy before its queue, so that no message is in a queue that does not yet know where to park it.
    # But that of something that is made anew comes with the new one: it might drop what the old one holds.
    later_policies = {policy_name(one.kind, one.name) for one in plan.of(Mark.REPLACE)}
    for change in (*plan.of(Mark.CREATE), *changes):
        if isinstance(change.thing, Policy) and not change.is_removal and change.name not in later_policies:
            broker.put_policy(change.thing)
    bindings = tuple(_things(plan, Binding, Mark.CREATE))
    created = Objects(
        tuple(_things(plan, Exchange, Mark.CREATE)),
        tuple(_things(plan, Queue, Mark.CREATE)),
        _possible(bindings, plan.of(Mark.REPLACE)),
    )
    first = live.owned
    if created.exchanges or created.queues or created.bindings:
        broker.declare(created)
        # Only now, so that what was published before a binding was there never counts as brought by it.
        first = (live.owned.still_in(live) | Owned.of(created)).dated(live.owned, _now())
        broker.remember(first)
    for change in plan.of(Mark.REPLACE):
        if _is_agreed(change, consent):
            say(f"replacing {change.kind} {change.name}: {change.why}")
            _replace(change, objects, live, broker, say)
    later = tuple(one for one in _possible(bindings, undone) if one not in created.bindings)
    if later:
        broker.declare(Objects(bindings=later))
    for change in changes:
        if change.is_removal and isinstance(change.thing, Binding):
            broker.delete_binding(live.bindings[change.thing.key])
        elif change.is_removal:
            broker.delete_policy(change.name)
    gone, kept = Owned(), list[tuple[Change, str]]()
    if consent.retire:
        gone, kept = delete(plan, broker.in_use, lambda change: _delete_one(change, live, broker), say)
    held_back = {one.key for one in bindings} - {one.key for one in (*created.bindings, *later)}
    made = Owned.of(objects)
    made = Owned(made.exchanges, made.queues, made.policies, made.bindings - held_back)
    owned = made | live.owned.still_in(live)
    removed = frozenset(
        one.thing.key for one in plan.of(Mark.CHANGE) if one.is_removal and isinstance(one.thing, Binding)
    )
    owned = Owned(
        owned.exchanges - gone.exchanges,
        owned.queues - gone.queues,
        (owned.policies - gone.policies) & (live.policies.keys() | {one.name for one in objects.policies}),
        owned.bindings - removed - gone.bindings,
    )
    if owned != live.owned:
        times = {**first.since, **live.owned.since}
        known = replace(first, bindings=first.bindings | live.owned.bindings, since=times)
        broker.remember(owned.dated(known, _now()))
    return [*left_over(plan, consent, objects), *kept]


def _now() -> int:
    return int(time.time() * 1000)


def _delete_one(change: Change, live: Live, broker: Broker) -> None:
    thing = change.thing
    if isinstance(thing, Queue):
        broker.delete_queue(thing)
    elif isinstance(thing, Binding):
        broker.delete_binding(live.bindings[thing.key])
    elif isinstance(thing, Exchange):
        broker.delete_exchange(thing.name)
    else:
        broker.delete_policy(thing.name)


def _things(plan: Plan, kind: type[T], *marks: Mark) -> Iterable[T]:
    return (one.thing for one in plan.of(*marks) if isinstance(one.thing, kind) and not one.is_removal)


def _possible(bindings: Collection[Binding], replaced_things: Collection[Change]) -> tuple[Binding, ...]:
    """Bindings of which no end is to be replaced."""
    replaced = {(one.kind, one.name) for one in replaced_things}
    return tuple(
        one
        for one in bindings
        if ("exchange", one.source) not in replaced and (one.destination_type, one.destination) not in replaced
    )


def _replace(change: Change, objects: Objects, live: Live, broker: Broker, say: Callable[[str], None]) -> None:
    thing = change.thing
    policy = next((one for one in objects.policies if one.name == policy_name(change.kind, change.name)), None)
    if isinstance(thing, Queue):
        broker.move(thing, policy, live, objects, say)
        return
    if not isinstance(thing, Exchange):
        raise RunnerError(f"{change.kind} {change.name!r}: cannot be replaced; allowed: exchanges and queues")
    # What the broker does not take it refuses now, while the old one is still there.
    probe = replace(thing, name=f"{thing.name}.replace.new")
    broker.declare(Objects((probe,)))
    broker.delete_exchange(probe.name)
    if policy is not None:
        broker.put_policy(policy)
    broker.delete_exchange(thing.name)
    ours = tuple(one for one in objects.bindings if _touches(one, thing.name))
    broker.declare(Objects((thing,), (), tuple(one for one in ours if _is_there(one, live, objects))))
    # Ours that topology.yaml no longer says, of things that it still says, are not made again.
    mine = {one.name for one in objects.queues} | {one.name for one in objects.exchanges}
    stale = {key for key in live.owned.bindings if key[2] in mine}
    known = {one.key for one in ours} | stale
    for key, other in live.bindings.items():
        # What others had bound to it, or it to, is theirs and comes back.
        if key not in known and _touches(other.binding, thing.name):
            broker.put_binding(other.binding)


def _touches(binding: Binding, exchange: str) -> bool:
    return exchange == binding.source or (binding.destination_type, binding.destination) == ("exchange", exchange)


def _is_there(binding: Binding, live: Live, objects: Objects) -> bool:
    queues = live.queues.keys() | {one.name for one in objects.queues}
    return binding.destination_type == "exchange" or binding.destination in queues
