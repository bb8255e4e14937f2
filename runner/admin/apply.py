"""The application of a plan's selected changes, in an order that leaves no message without a queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.admin.exchange_replacement import ExchangeReplacement
from runner.admin.pending_renames import PendingRenames
from runner.errors import BrokerError, BrokerRefused, DeclarationRefused, RunnerError
from runner.topology.compile import owner_of_policy, policy_name
from runner.topology.effective_settings import applies
from runner.topology.held_routes import upstream_ranks
from runner.topology.live import BindingKey, Live, Owned
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue
from runner.topology.plan import Change, Decision, Left, Mark
from runner.topology.retire import delete

if TYPE_CHECKING:
    from runner.admin.administrator import Administrator


def apply(
    decision: Decision,
    live: Live,
    broker: Administrator,
    say: Callable[[str], None] = lambda _: None,
    did: Callable[[Change], None] = lambda _: None,
) -> list[Left]:
    """Apply all selected changes. The call may be interrupted at any point and repeated.

    ``did`` is called with each change after the change is made. Returns the remaining changes, and what each of these
    changes requires. Raises RunnerError if the broker refuses a change. Changes that were made before the error are
    kept.
    """
    return [*decision.left, *_Application(decision, live, broker, say, did).run()]


class _Application:
    """One application of a decision. Objects are first created, then replaced, and finally removed."""

    def __init__(
        self,
        decision: Decision,
        live: Live,
        broker: Administrator,
        say: Callable[[str], None],
        did: Callable[[Change], None],
    ) -> None:
        self._decision, self._live, self._broker, self._say, self._did = decision, live.settled(), broker, say, did
        self._as_found = live
        self._replaced = decision.of(Mark.REPLACE)
        self._renames = PendingRenames(decision, self._live)
        self._created = (*self._renames.others(decision.of(Mark.CREATE)), *self._renames.entrances)
        #: The names of policies that might drop the old messages of replaced objects. These policies are set together
        #: with the new objects.
        self._later = {policy_name(one.kind, one.name) for one in self._replaced}
        self._remembered = live.owned
        self._deleted = Owned()

    def run(self) -> list[Left]:
        """Apply all changes. Return the objects under ``retire`` that are kept."""
        self._put_policies(is_first=True)
        self._declare()
        self._put_policies(is_first=False)
        self._replace()
        self._declare_last()
        kept = list(self._renames.run(self._broker, self._say, self._did))
        for change in self._removals():
            self._remove(change)
            self._did(change)
        kept += self._retire()
        self._remember_all()
        return kept

    def _policies(self) -> Iterable[tuple[Change, Policy]]:
        for change in (*self._created, *self._decision.of(Mark.CHANGE)):
            if isinstance(change.thing, Policy) and not change.is_removal and change.name not in self._later:
                yield change, change.thing

    def _put_policies(self, *, is_first: bool) -> None:
        """Set the policies of new objects if ``is_first`` is True, and otherwise all other policies."""
        new = [one.thing for one in self._created if isinstance(one.thing, Exchange | Queue)]
        names = {("queue" if isinstance(one, Queue) else "exchange", one.name) for one in new}
        for change, policy in self._policies():
            owner = owner_of_policy(policy.name)
            is_for_new = owner in names if owner else any(self._may_apply(policy, thing) for thing in new)
            if is_for_new == is_first:
                self._broker.put_policy(policy)
                self._did(change)

    def _may_apply(self, policy: Policy, thing: Exchange | Queue) -> bool:
        return applies(policy, thing, self._live.version or None) is not False

    def _declare(self) -> None:
        absent = self._absent()
        made = [one for one in self._created if not isinstance(one.thing, Policy)]
        made = [one for one in made if not self._comes_with_exchange(one) and not _touches_any(one, absent)]
        # Downstream bindings are created first, so that a message always has a destination at each exchange.
        ranks = upstream_ranks(one.thing for one in made if isinstance(one.thing, Binding))
        made.sort(key=lambda one: -ranks[one.thing.source] if isinstance(one.thing, Binding) else -len(made))
        if not made:
            return
        self._declare_changes(made)
        # A binding is recorded after its declaration, so that earlier messages do not count as routed by this binding.
        self._remember_also(made)

    def _declare_last(self) -> None:
        """Bind the replaced queues that an interrupted run has deleted."""
        absent = self._absent()
        later = [one for one in self._created if _touches_any(one, absent)]
        if later:
            self._declare_changes(later)
            self._remember_also(later)

    def _declare_changes(self, changes: list[Change]) -> None:
        try:
            self._broker.declare(Objects.of(one.thing for one in changes))
        except DeclarationRefused as error:
            # The broker has accepted all other objects.
            refused = {(one.kind, one.name) for one in (Change(Mark.CREATE, thing) for thing in error.things)}
            done = [one for one in changes if (one.kind, one.name) not in refused] if refused else []
            for change in done:
                self._did(change)
            with suppress(RunnerError):
                self._remember_also(done)
            raise
        except (BrokerError, BrokerRefused):
            self._say(
                f"interrupted: some of the {len(changes)} changes may have been made; the next plan shows the rest"
            )
            raise
        for change in changes:
            self._did(change)

    def _removals(self) -> list[Change]:
        """Return the removals in order, with incoming bindings first and policies last."""
        changes = [one for one in self._decision.of(Mark.CHANGE) if one.is_removal]
        ranks = upstream_ranks(one.thing for one in changes if isinstance(one.thing, Binding))
        return sorted(
            changes, key=lambda one: ranks[one.thing.source] if isinstance(one.thing, Binding) else len(ranks)
        )

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

    def _remember_also(self, changes: list[Change]) -> None:
        policies = frozenset(one.name for one in self._created if isinstance(one.thing, Policy))
        owned = (
            self._remembered | Owned.of(Objects.of(one.thing for one in changes)) | Owned(policies=policies)
        ).dated(self._remembered, _now())
        self._broker.remember(owned)
        self._remembered = owned

    def _remember_all(self) -> None:
        live, first = self._live, self._renames.remembered(self._remembered)
        gone, standing = self._deleted | self._renames.gone, self._renames.standing
        owned = self._decision.owned(live)
        removed = self._removed()
        policies = {one.name for one in self._decision.target.policies}
        owned = Owned(
            owned.exchanges - gone.exchanges,
            owned.queues - gone.queues,
            (owned.policies - gone.policies) & (live.policies.keys() | policies),
            owned.bindings - removed - gone.bindings | standing,
        )
        if owned != live.owned or first != live.owned or first.renamed != live.owned.renamed:
            times = {**first.since, **live.owned.since}
            known = replace(first, bindings=first.bindings | live.owned.bindings, since=times)
            self._broker.remember(owned.dated(known, _now()))

    def _removed(self) -> set[BindingKey]:
        """Return the keys of the bindings that are no longer in topology.yaml."""
        going = [one.thing for one in self._removals()]
        return {one.key for one in going if isinstance(one, Binding)}

    def _replace(self) -> None:
        """Replace all exchanges together, then the queues, so that a route through two exchanges never breaks."""
        for change in self._replaced:
            if not isinstance(change.thing, Exchange | Queue):
                raise RunnerError(f"{change.kind} {change.name!r}: cannot be replaced; allowed: exchanges and queues")
        exchanges = [one for one in self._replaced if isinstance(one.thing, Exchange)]
        target = self._renames.target
        if exchanges:
            for change in exchanges:
                self._say(f"replacing {change.kind} {change.name}: {change.why}")
            things = [one.thing for one in exchanges if isinstance(one.thing, Exchange)]
            ExchangeReplacement(things, target, self._as_found, self._removed(), self._broker).run()
            for change in exchanges:
                self._did_replace(change)
            made = [one for one in self._created if self._comes_with_exchange(one)]
            for change in made:
                self._did(change)
            self._remember_also(made)
        for change in self._replaced:
            if isinstance(change.thing, Queue):
                self._say(f"replacing {change.kind} {change.name}: {change.why}")
                name = policy_name(change.kind, change.name)
                policy = next((one for one in target.policies if one.name == name), None)
                self._broker.move(change.thing, policy, self._as_found, target, self._say)
                self._did_replace(change)

    def _did_replace(self, change: Change) -> None:
        self._did(change)
        name = policy_name(change.kind, change.name)
        for other in (*self._created, *self._decision.of(Mark.CHANGE)):
            if other.name == name and not other.is_removal:
                self._did(other)

    def _comes_with_exchange(self, change: Change) -> bool:
        replaced = {("exchange", one.name) for one in self._replaced if one.kind == "exchange"}
        return _touches_any(change, replaced) and not _touches_any(change, self._absent())

    def _absent(self) -> set[tuple[str, str]]:
        """Return the queues that must be replaced and that an interrupted run has already deleted."""
        return {("queue", one.name) for one in self._replaced if one.name not in self._live.queues}


def _now() -> int:
    return int(time.time() * 1000)


def _touches_any(change: Change, things: set[tuple[str, str]]) -> bool:
    one = change.thing
    if not isinstance(one, Binding):
        return False
    return ("exchange", one.source) in things or (one.destination_type, one.destination) in things
