"""Surplus objects, which FastCommerce declared and topology.yaml no longer contains, for ``apply --prune``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property

from runner.config.topology_file import Retire
from runner.invocation import invocation
from runner.topology.compile import dead_letter_queue, owner_of_policy
from runner.topology.effective_settings import Policies, applies
from runner.topology.held_routes import references
from runner.topology.live import DRAIN_SUFFIXES, STAND_IN, Live, LiveBinding
from runner.topology.model import Exchange, Node, Objects, Queue
from runner.topology.plan import Change, binding_name, counted
from runner.topology.rename import RETRY
from runner.topology.retire import DEAD_LETTERS, retired

#: The beginning of each line about a surplus object.
GONE = "no longer in topology.yaml"
#: The maximum number of names in the line that a start prints.
MOST_NAMES = 3


class Surplus:
    """The objects that FastCommerce declared on a broker, and that topology.yaml neither lists, retires nor renames."""

    def __init__(
        self, objects: Objects, live: Live, going: Iterable[Change] = (), renamed: Collection[str] = ()
    ) -> None:
        """``going`` contains the deletions under ``retire``. ``renamed`` contains the old names of renamed queues."""
        self._objects, self._live = objects, live
        retiring = {(one.kind, one.name) for one in going}
        queues = {one.name for one in objects.queues} | set(renamed)
        exchanges = {one.name for one in objects.exchanges}
        aside = {f"{name}{suffix}" for name in queues for suffix in DRAIN_SUFFIXES}
        stand_ins = {f"{name}{STAND_IN}" for name in exchanges}
        owned, policies = live.owned.still_in(live), {one.name for one in objects.policies}
        wanted = {("queue", name) for name in queues | aside} | {("exchange", name) for name in exchanges | stand_ins}
        wanted |= retiring

        def surplus(kind: str, names: Iterable[str]) -> set[str]:
            return {name for name in names if (kind, name) not in wanted}

        self.queues, self.exchanges = surplus("queue", owned.queues), surplus("exchange", owned.exchanges)
        # A change in place, not ``apply --prune``, removes the generated policy of an object in topology.yaml.
        self.policies = {
            name for name in surplus("policy", owned.policies - policies) if owner_of_policy(name) not in wanted
        }
        #: The queue to which each retry queue and dead-letter queue belongs.
        self.parts = {name: main for name in self.queues if (main := self._main_of(name)) is not None}
        self._nodes = {("queue", name) for name in self.queues} | {("exchange", name) for name in self.exchanges}

    def _main_of(self, name: str) -> str | None:
        origin, word, _ = name.partition(RETRY)
        main = origin if word else name.removesuffix(DEAD_LETTERS)
        is_generated = bool(word) or self._live.queues[name].queue == dead_letter_queue(name)
        return main if main != name and main in self.queues and is_generated else None

    @cached_property
    def _bound(self) -> dict[Node, list[LiveBinding]]:
        """The bindings from and to each exchange and queue."""
        found: dict[Node, list[LiveBinding]] = defaultdict(list)
        for key, one in sorted(self._live.bindings.items()):
            for node in {("exchange", key[0]), (key[1], key[2])}:
                found[node].append(one)
        return found

    @cached_property
    def kept(self) -> dict[Node, str]:
        """The objects that ``apply --prune`` keeps because another object or client uses them, with the reasons."""
        kept: dict[Node, str] = {}
        while self._nodes - kept.keys():
            # A kept object may need other objects.
            leads = {end: node for node, ends in self._leads(kept).items() for end in ends}
            found = [(node, self._reason(node, kept, leads)) for node in sorted(self._nodes - kept.keys())]
            if not any(reason for _, reason in found):
                break
            kept |= {node: reason for node, reason in found if reason}
        for name in sorted(self.policies):
            owner = owner_of_policy(name)
            reason = f"{owner[0]} {owner[1]!r} is kept" if owner in kept and owner else self._other_user_of(name)
            if reason:
                kept["policy", name] = reason
        return kept

    def _reason(self, node: Node, kept: Collection[Node], leads: dict[Node, Node]) -> str:
        """Return the reason to keep a queue or an exchange, or an empty string if there is none."""
        kind, name = node
        there = self._live.queues.get(name) if kind == "queue" else None
        if there is not None and there.consumers != 0:
            return f"it has {counted(there.consumers, 'consumer')}"
        if (main := self.parts.get(name)) is not None and there is not None and ("queue", main) in kept:
            return f"queue {main!r} is kept"
        if node in leads:
            return f"{leads[node][0]} {leads[node][1]!r} refers to it"
        for one in self._bound[node]:
            if one.binding.key not in self._live.owned.bindings:
                return f"another client created the binding {binding_name(one.binding)}"
            source, end = ("exchange", one.binding.source), (one.binding.destination_type, one.binding.destination)
            other = end if node == source else source
            if kind == "exchange" and other in kept:
                return f"{other[0]} {other[1]!r} is kept"
        return ""

    def _leads(self, kept: Collection[Node]) -> dict[Node, set[Node]]:
        """Return the alternate exchanges and dead-letter targets of all objects that are kept."""
        objects, live = self._objects, self._live
        full = {("queue", name) for name in self.queues if live.queues[name].messages != 0}
        going = self._nodes - set(kept) - full
        known = {("queue", one.name) for one in objects.queues} | {("exchange", one.name) for one in objects.exchanges}
        others = references(
            [one for name, one in live.exchanges.items() if ("exchange", name) not in going | known],
            [one.queue for name, one in live.queues.items() if ("queue", name) not in going | known],
            Policies(live.policies.values(), live.version or None),
        )
        policies = Policies(objects.policies, live.version or None)
        return others | references(objects.exchanges, objects.queues, policies)

    def _other_user_of(self, policy: str) -> str:
        """Return a text about another client's object to which a policy applies, or "" if there is none."""
        live, objects = self._live, self._objects
        exchanges = live.exchanges.keys() - live.owned.exchanges - {one.name for one in objects.exchanges}
        queues = live.queues.keys() - live.owned.queues - {one.name for one in objects.queues}
        things: list[Exchange | Queue] = [live.exchanges[name] for name in sorted(exchanges)]
        things += [live.queues[name].queue for name in sorted(queues)]
        for thing in things:
            if applies(live.policies[policy], thing, live.version or None) is not False:
                return f"the policy applies to another client's {type(thing).__name__.lower()} {thing.name!r}"
        return ""

    def deletions(self) -> Iterator[Change]:
        """Yield the deletions that ``apply --prune`` makes, with each queue next to its bindings and parts."""
        kept = self.kept
        # The generated policy of a deleted object is deleted with the object.
        policies = {name for name in self.policies if owner_of_policy(name) not in self._nodes}
        yield from retired(
            self._objects,
            self._live,
            Retire(
                queues=sorted(name for name in self.queues - self.parts.keys() if ("queue", name) not in kept),
                exchanges=sorted(name for name in self.exchanges if ("exchange", name) not in kept),
                policies=sorted(name for name in policies if ("policy", name) not in kept),
            ),
        )

    def why(self, kind: str, name: str) -> str:
        """Return a plan's text about a surplus object, or an empty string for any other object."""
        if name not in {"queue": self.queues, "exchange": self.exchanges, "policy": self.policies}[kind]:
            return ""
        if (reason := self.kept.get((kind, name))) is not None:
            return f"{GONE}; apply --prune keeps it: {reason}"
        is_bound = kind == "queue" and bool(self.sources_of(name))
        is_full = kind == "queue" and self._live.queues[name].messages != 0
        unbinds, once = ("unbinds it, and " if is_bound else ""), (" once it is empty" if is_full or is_bound else "")
        return f"{GONE}; apply --prune {unbinds}deletes it{once}"

    def sources_of(self, queue: str) -> list[str]:
        """Return the exchanges that still route messages to a queue."""
        return sorted({one.binding.source for one in self._bound[("queue", queue)]})

    def line(self) -> str:
        """Return one line about all surplus objects, or an empty string if there are no surplus objects."""
        # Queues that still get messages come first.
        queues = sorted(self.queues - self.parts.keys(), key=lambda name: (not self.sources_of(name), name))
        names = [self._described(name) for name in queues]
        names += [f"exchange {name}" for name in sorted(self.exchanges)]
        names += [f"policy {name}" for name in sorted(self.policies) if owner_of_policy(name) not in self._nodes]
        if not names:
            return ""
        number = f"{len(names)} objects are" if len(names) > 1 else "1 object is"
        rest = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        remedy = f"to unbind the queues and delete all empty objects: {invocation('apply', '--prune')}"
        return f"{number} {GONE} and still on the broker: {', '.join(names[:MOST_NAMES])}{rest}; {remedy}"

    def reasons(self) -> Iterator[tuple[str, str]]:
        """Yield each object that ``apply --prune`` keeps, with the reason. Parts of queues are omitted."""
        for (kind, name), reason in sorted(self.kept.items()):
            if (kind, name) not in {("queue", part) for part in self.parts} and owner_of_policy(
                name
            ) not in self._nodes:
                yield f"{kind} {name!r}", reason

    @property
    def fills_up(self) -> bool:
        """True if a surplus queue still gets messages."""
        return any(self.sources_of(name) for name in self.queues)

    def _described(self, queue: str) -> str:
        sources = self.sources_of(queue)
        return f"queue {queue} (still gets messages from {', '.join(sources)})" if sources else f"queue {queue}"
