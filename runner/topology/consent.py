"""The user's consent to unsafe changes, and its effect on a plan. Each object is changed or held back as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from runner.invocation import invocation
from runner.topology.compile import owner_of_policy
from runner.topology.effective_settings import Policies, applies
from runner.topology.generated_parts import GeneratedParts
from runner.topology.held_routes import Passages
from runner.topology.live import Live
from runner.topology.model import Binding, Exchange, Node, Objects, Policy, Queue
from runner.topology.plan import INTERRUPTED, Change, Decision, Left, Mark, Plan, counted
from runner.topology.rename import former_bindings, leads_to, renames
from runner.topology.retire import DEAD_LETTERS

#: The obstacle that a plan names for removals that wait until services are replaced.
REPLACED_SERVICES = "the replacement of the services"


@dataclass(frozen=True)
class Consent:
    """The unsafe changes that the user has allowed."""

    #: The exchanges and queues that may be deleted and recreated.
    replace: frozenset[str] = frozenset()
    #: True if the messages of each replaced queue are moved to the new queue.
    drain: bool = False
    #: True if the objects under ``retire`` may be deleted.
    retire: bool = False
    #: True if queues may be renamed, and if bindings and policies that are no longer in topology.yaml may be removed.
    removals: bool = True


def decide(plan: Plan, objects: Objects, live: Live, consent: Consent) -> Decision:
    """Divide a plan into the changes that the consent allows and the remaining changes, with their requirements."""
    division = _Division(plan, objects, live.settled(), consent)
    while division.roots and division.spread():
        pass
    if not consent.removals:
        division.keep_removals()
    return division.decision()


class _Division:
    """A search for objects to hold back, starting from the replacements that the user has not consented to."""

    def __init__(self, plan: Plan, objects: Objects, live: Live, consent: Consent) -> None:
        self._objects, self._live = objects, live
        self._parts = GeneratedParts(objects, live)
        waiting = {step for name in consent.replace for step in self._parts.steps(name)}
        self._consent = replace(consent, replace=consent.replace | waiting)
        self._changes = [one for one in plan.changes if one.mark is not Mark.UNMANAGED]
        #: The changes to policies under ``policies`` in topology.yaml, by index in the plan.
        self._written = {
            place: one
            for place, one in enumerate(self._changes)
            if isinstance(one.thing, Policy) and not owner_of_policy(one.name)
        }
        names = {one.name for one in self._written.values()}
        #: The policies on the broker, except those that ``_written`` changes.
        self._standing = Policies(
            (one for name, one in self._live.policies.items() if name not in names), self._live.version or None
        )
        #: The name of the object that a change waits for, by index in the plan. Empty if the change waits for consent.
        self._waits: dict[int, str] = {}
        #: The held-back objects, each with the name of the object that it waits for.
        self._held: dict[Node, str] = {}
        #: The held-back policies in topology.yaml, each with the name of the object that it waits for.
        self._policies_held: dict[str, str] = {}
        self.roots: dict[int, Change] = {}
        for place, change in enumerate(self._changes):
            if change.mark is Mark.REPLACE and not self._is_agreed(change):
                self.roots[place] = change
                self._waits[place] = ""
                self._hold(self._parts.node(change), f"{change.kind} {change.name!r}")
            elif change.mark is Mark.RETIRE and not consent.retire:
                self._waits[place] = ""

    def _is_agreed(self, change: Change) -> bool:
        return change.name in self._consent.replace and (self._consent.drain or change.messages == 0)

    def _hold(self, node: Node, cause: str) -> None:
        for one in self._parts.members(node):
            self._held.setdefault(one, cause)

    def spread(self) -> bool:
        """Hold back all changes that affect a held-back object or its messages.

        Return False if no further change or object is held back.
        """
        before = len(self._waits), len(self._held)
        self._passages = Passages(self._objects, self._live, self._held, self._open_bindings())
        self._policies_held = {
            change.name: cause for place, change in self._written.items() if (cause := self._waits.get(place))
        }
        guard = self._policy_guard(list(self._written.values()))
        for place, change in enumerate(self._changes):
            if place in self._waits:
                continue
            is_written = place in self._written
            cause = guard.get(change.name, "") if is_written else self._cause(change)
            if cause:
                self._waits[place] = cause
                if not isinstance(change.thing, Binding) and not is_written:
                    self._hold(self._parts.node(change), cause)
        return (len(self._waits), len(self._held)) != before

    def keep_removals(self) -> None:
        """Postpone removals and renames. This step comes last, because all other obstacles hold back whole objects."""
        # A queue keeps its name and its bindings, because the old services still consume it.
        renamed = {one.new for one in renames(self._objects, self._live) if one.queues}
        for place, change in enumerate(self._changes):
            is_removal = change.mark is Mark.CHANGE and change.is_removal
            is_entrance = change.mark is Mark.CREATE and any(leads_to(change.thing, name) for name in renamed)
            if is_removal or change.mark is Mark.RENAME or is_entrance:
                self._waits.setdefault(place, REPLACED_SERVICES)

    def _open_bindings(self) -> Iterator[tuple[Binding, str]]:
        for place, cause in self._waits.items():
            change = self._changes[place]
            if change.mark is Mark.CREATE and isinstance(change.thing, Binding):
                yield change.thing, cause

    def _cause(self, change: Change) -> str:
        """Return the name of the object for which a change must wait, or an empty string if there is none."""
        thing, passages = change.thing, self._passages
        if isinstance(thing, Binding):
            ends = (("exchange", thing.source), self._parts.root(thing.destination_type, thing.destination))
            cause = next((self._held[end] for end in ends if end in self._held), "")
            is_going = change.is_removal or change.mark is Mark.RETIRE
            return cause or (passages.carries(thing) if is_going else passages.diverts(thing))
        node = self._parts.node(change)
        if node in self._held:
            return self._held[node]
        if change.mark in (Mark.RENAME, Mark.RETIRE):
            return self._cause_to_stay(change, node)
        if self._parts.is_own_dead_letter_queue(change):
            owners = [self._held.get(("queue", one)) for one in self._parts.owners(change.name)]
            return owners[0] or "" if all(owners) else ""
        if isinstance(thing, Exchange) and change.mark is Mark.REPLACE and (cause := passages.carries_through(thing)):
            return cause
        wanted = self._parts.wanted_policy(node)
        return self._policies_held.get(wanted.name if wanted else "", "") or passages.leads_astray(node)

    def _cause_to_stay(self, change: Change, node: Node) -> str:
        """Return the name of the object that prevents a rename or a deletion under ``retire``, or "" if none does."""
        if change.mark is Mark.RENAME:
            causes = [cause for one, cause in self._open_bindings() if leads_to(one, change.new_name)]
            for one, is_gone in former_bindings(change.new_name, self._objects, self._live):
                causes.append(self._held.get(("exchange", one.source), ""))
                causes += [self._passages.carries(one)] if is_gone else []
            return next(filter(None, causes), "")
        # A dead-letter queue is kept as long as its queue.
        owner = ("queue", change.name.removesuffix(DEAD_LETTERS))
        return self._passages.needs(node) or (self._held.get(owner, "") if change.kind == "queue" else "")

    def _policy_guard(self, changes: list[Change]) -> Mapping[str, str]:
        """Return the policies that would change the settings of a held-back object, each with the object's name."""
        if not changes:
            return {}
        guarded: list[tuple[Exchange | Queue, str]] = []
        guarded += [(thing, cause) for node, cause in self._held.items() for thing in self._parts.live_things(node)]
        if self._policies_held:
            wanted: tuple[Exchange | Queue, ...] = (*self._objects.exchanges, *self._objects.queues)
            for one in wanted:
                policy = self._parts.policies.applying(one)
                node = ("queue" if isinstance(one, Queue) else "exchange", one.name)
                if policy is not None and policy.name in self._policies_held:
                    cause = self._policies_held[policy.name]
                    guarded += [(thing, cause) for thing in self._parts.live_things(node)]
        result: dict[str, str] = {}
        for thing, cause in guarded:
            above = self._standing.applying(thing)
            for change in changes:
                is_going = change.is_removal or change.mark is Mark.RETIRE
                new = change.thing if isinstance(change.thing, Policy) and not is_going else None
                for policy in (self._live.policies.get(change.name), new):
                    hides = above is not None and policy is not None and above.priority > policy.priority
                    # A policy that cannot be evaluated might apply to the object.
                    is_for_it = policy is not None and applies(policy, thing, self._live.version or None) is not False
                    if is_for_it and not hides:
                        result.setdefault(change.name, cause)
        return result

    def decision(self) -> Decision:
        """Return the decision about the whole plan."""
        changes = self._changes
        left = [Left(changes[place], self._needs(changes[place])) for place in self.roots if self._is_asked(place)]
        for place in sorted(self._waits.keys() - {place for place in self.roots if self._is_asked(place)}):
            change, cause = changes[place], self._waits[place]
            if cause or place in self.roots:
                cause = cause or self._held[self._parts.node(change)]
                left.append(Left(change, f"it waits for {cause}", cause, self._parts.is_generated(change)))
            else:
                left.append(Left(change, f"to delete it: {invocation('apply')}"))
        done = tuple(one for place, one in enumerate(changes) if place not in self._waits)
        members = {one for node in self._held for one in self._parts.members(node)}
        open_routes: frozenset[str] = frozenset(self._passages.sources) if self.roots else frozenset()
        return Decision(done, tuple(left), frozenset(members), open_routes, self._target())

    def _is_asked(self, place: int) -> bool:
        """Return True if a change needs its own consent. A retry queue is replaced together with its queue."""
        change = self.roots[place]
        root = self._parts.node(change)
        return change.name == root[1] or not any((one.kind, one.name) == root for one in self.roots.values())

    def _needs(self, change: Change) -> str:
        drain = ["--drain"] if change.kind == "queue" else []
        if change.name in self._consent.replace:
            return f"it has {counted(change.messages, 'message')}; add --drain to move them into the new queue"
        command = invocation("apply", "--replace", change.name, *drain)
        return command if change.why == INTERRUPTED else f"change it back, or: {command}"

    def _target(self) -> Objects:
        objects, live = self._objects, self._live
        if not self._waits:
            return objects
        waiting = [self._changes[place] for place in self._waits]
        absent = {(one.kind, one.name) for one in waiting if one.mark is Mark.CREATE and one.kind != "binding"}
        other = {(one.kind, one.name) for one in waiting if one.mark in (Mark.REPLACE, Mark.CHANGE)}
        unmade = {one.thing.key for one in waiting if isinstance(one.thing, Binding) and one.mark is Mark.CREATE}
        kept = [one.thing for one in waiting if one.mark is Mark.CHANGE and one.is_removal]
        exchanges = [
            live.exchanges.get(one.name) if ("exchange", one.name) in other else one
            for one in objects.exchanges
            if ("exchange", one.name) not in absent
        ]
        queues = [
            (live.queues[one.name].queue if one.name in live.queues else None) if ("queue", one.name) in other else one
            for one in objects.queues
            if ("queue", one.name) not in absent
        ]
        policies = [
            live.policies[one.name] if ("policy", one.name) in other else one
            for one in objects.policies
            if ("policy", one.name) not in absent
        ]
        return replace(
            objects,
            exchanges=tuple(one for one in exchanges if one is not None),
            queues=tuple(one for one in queues if one is not None),
            bindings=(
                *(one for one in objects.bindings if one.key not in unmade),
                *(one for one in kept if isinstance(one, Binding)),
            ),
            policies=(*policies, *(one for one in kept if isinstance(one, Policy))),
        )
