"""The queue renames in one ``apply``, with their effects on bindings and on the record of the managed objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.topology.consent import REPLACED_SERVICES
from runner.topology.live import Live, Owned
from runner.topology.model import Binding
from runner.topology.plan import Change, Decision, Left, Mark
from runner.topology.rename import Rename, before_renames, leads_to, renames

if TYPE_CHECKING:
    from runner.admin.administrator import Administrator


class PendingRenames:
    """The queues that one decision renames, either now or after the services are replaced."""

    def __init__(self, decision: Decision, live: Live) -> None:
        """``live`` is the state of the broker before the first change."""
        self._decision, self._live = decision, live
        later = [one.change for one in decision.left if one.waits_for == REPLACED_SERVICES]
        moving = {one.new_name for one in (*decision.done, *later) if one.mark is Mark.RENAME}
        found = {one.new: one for one in renames(decision.target, live) if one.new in moving}
        self._pending = [(one, found[one.new_name]) for one in decision.of(Mark.RENAME) if one.new_name in found]
        bound = [one.new for one in found.values() if one.old in live.queues]
        created = [one for one in (*decision.of(Mark.CREATE), *later) if one.mark is Mark.CREATE]
        self._waiting = [one for one in created if any(leads_to(one.thing, name) for name in bound)]
        things = [one.thing for one in self._waiting if isinstance(one.thing, Binding)]
        former = before_renames(things, found.values(), live)
        #: New bindings for the old queue, which gets all messages until it is renamed. Afterwards, the new queue gets
        #: the messages.
        self.entrances = tuple(Change(Mark.CREATE, one) for one in former if one.key not in live.bindings)
        kept = [one for one in decision.target.bindings if one.key not in {thing.key for thing in things}]
        #: The objects in topology.yaml as they must be before any queue is renamed.
        self.target = replace(decision.target, bindings=(*kept, *former))
        #: The managed objects that no longer exist, and the bindings that were not created.
        self.gone = Owned()
        #: The keys of the managed bindings to a queue that keeps its old name.
        self.standing = frozenset(one.key for one in former)

    def others(self, created: Iterable[Change]) -> list[Change]:
        """Return the changes that create an object and do not wait for a rename."""
        waiting = {id(one) for one in self._waiting}
        return [one for one in created if id(one) not in waiting]

    def run(self, broker: Administrator, say: Callable[[str], None], did: Callable[[Change], None]) -> Iterator[Left]:
        """Rename the queues. Yield the changes that remain because a queue keeps its old name."""
        for change, one in self._pending:
            reason = broker.rename(one, self._live, self._decision.target, say)
            waiting = [entrance for entrance in self._waiting if leads_to(entrance.thing, one.new)]
            if reason is None:
                self._note_gone(one)
                # The administrator has reported the number of moved messages, so the plan's number is omitted.
                for done in (replace(change, why=""), *waiting):
                    did(done)
                continue
            yield Left(change, reason)
            keys = frozenset(entrance.thing.key for entrance in waiting if isinstance(entrance.thing, Binding))
            self.gone |= Owned(bindings=keys)
            cause = f"queue {one.old!r}"
            yield from (Left(entrance, f"it waits for {cause}", cause, is_implied=True) for entrance in waiting)

    def remembered(self, before: Owned) -> Owned:
        """Return the record of the managed objects. A moved binding keeps the time of the old binding.

        The record also contains the old queue names, because the stored ids of handled messages include these names.
        """
        since, bindings = dict(before.since), set(before.bindings)
        for one in self._decision.target.bindings:
            for _, rename in self._pending:
                old = replace(one, destination=rename.old).key
                if leads_to(one, rename.new) and old in before.bindings:
                    bindings.add(one.key)
                    since |= {one.key: since[old]} if old in since else {}
        found = replace(before, bindings=frozenset(bindings), since=since)
        # An earlier run may have renamed a queue without recording the new name.
        for new, former in self._decision.target.formerly.items():
            found = found.with_rename(former, new)
        return found

    def _note_gone(self, one: Rename) -> None:
        keys = frozenset(key for key in self._live.owned.bindings | self.standing if one.brings(key))
        self.gone |= Owned(queues=frozenset(one.sources), policies=frozenset(one.policies), bindings=keys)
        self.standing -= keys
