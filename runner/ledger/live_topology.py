"""What of a topology is on the broker: bindings that are made, and all queues that hold a project's messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from runner.admin.management import Management
from runner.admin.management_api import ManagementError
from runner.deadletters.open_queues import OpenQueues
from runner.deadletters.origins import Origins
from runner.topology.live import DRAIN_SUFFIXES, Live, Owned
from runner.topology.model import Objects
from runner.topology.plan import Change, Mark
from runner.topology.rename import RETRY

#: By the name of a dead-letter queue, the queues that park there.
OriginQueues = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class MessagePlaces:
    """Where to look: a broker, and which queues lead where on it."""

    url: str
    management: Management
    places: Origins
    #: What holds the messages of each queue that a service reads, but parked ones, in the order in which they go.
    own: Mapping[str, tuple[str, ...]]
    #: The queue of notes, where tries are traced.
    trace: str | None
    #: The queues that a service reads.
    consumed: frozenset[str]

    @classmethod
    def of(cls, desk: OpenQueues, objects: Objects, live: Live, trace: str | None) -> MessagePlaces:
        """Where the messages of a project are whose desk is opened."""
        origins = dead_letter_queues(objects, desk.places.origins, live)
        places = replace(desk.places, origins=origins)
        consumed = desk.project.consumed
        names = {*consumed, *([trace] if trace is not None else [])}
        own = {name: own_queues(name, objects, live) for name in names}
        return cls(desk.url, desk.management, places, own, trace, consumed)


def standing(objects: Objects, live: Live) -> Objects:
    """``objects`` with the bindings that are there, instead of those that an edit only says.

    One of ours that somebody took away with its queue stands: what it does not bring is lost. Where the broker
    remembers nothing as ours, ``topology.yaml`` is the best that is known.
    """
    ours = live.owned.bindings
    if not ours:
        return objects
    written = {one.key for one in objects.bindings}
    there = ours | live.bindings.keys()
    left = [live.bindings[key].binding for key in sorted((ours & live.bindings.keys()) - written)]
    known = {one.name for one in objects.exchanges}
    ends = {name for one in left for name in (one.source, one.destination if one.destination_type != "queue" else "")}
    exchanges = tuple(live.exchanges[name] for name in sorted(ends - known) if name in live.exchanges)
    return replace(
        objects,
        exchanges=(*objects.exchanges, *exchanges),
        bindings=(*(one for one in objects.bindings if one.key in there), *left),
    )


def unapplied(objects: Objects, live: Live) -> Iterator[str]:
    """Each binding in which ``topology.yaml`` and the broker differ, for people."""
    stands = standing(objects, live).bindings
    keys, written = {one.key for one in stands}, {one.key for one in objects.bindings}
    queues, exchanges = {one.name for one in objects.queues}, {one.name for one in objects.exchanges}
    for one in objects.bindings:
        if one.key not in keys:
            yield f"binding {Change(Mark.CREATE, one).name}: not applied yet, so nothing counts by it"
    for one in stands:
        if one.key not in written and one.destination in (queues if one.destination_type == "queue" else exchanges):
            yield f"binding {Change(Mark.CHANGE, one).name}: no longer in topology.yaml and still there, so it counts"


def own_queues(queue: str, objects: Objects, live: Live) -> tuple[str, ...]:
    """A queue and its wait queues, in the order in which a message goes through them.

    With the wait queues that left its ladder, as they return what they hold; and what an interrupted replacement has
    set aside.
    """
    ladder = objects.ladders.get(queue)
    waiting = [name for _, name in ladder.steps] if ladder is not None else []
    known = {one.name for one in objects.queues}
    # Until it is renamed, its messages are in queues of its former name.
    former = objects.formerly.get(queue)
    starts = tuple(f"{name}{RETRY}" for name in (queue, former) if name is not None)
    left = [name for name in sorted(live.owned.queues - known) if name.startswith(starts)]
    before = [former] if former is not None and former in live.queues else []
    return tuple(part for name in (*before, queue, *waiting, *left) for part in _with_aside(name, live))


def dead_letter_queues(objects: Objects, origins: OriginQueues, live: Live) -> OriginQueues:
    """``origins``, by the dead-letter queue in which each queue parks, and what may hold parked messages beside those.

    Those are what is ours and no longer in ``topology.yaml`` while nothing is bound to it, as after another
    ``dead_letter``; and what an interrupted replacement of a dead-letter queue has set aside.
    """
    known = {one.name for one in objects.queues}
    bound = {key[2] for key in live.owned.bindings | live.bindings.keys() if key[1] == "queue"}
    waits = [f"{name}.retry." for name in objects.ladders]
    left = live.owned.queues - known - bound
    found = dict(origins)
    for name in origins:
        found |= dict.fromkeys(_with_aside(name, live)[1:], origins[name])
    for name in sorted(left & live.queues.keys()):
        if not any(name.startswith(one) for one in waits):
            found.setdefault(name, ())
    return found


def _with_aside(name: str, live: Live) -> list[str]:
    return [name, *(aside for suffix in DRAIN_SUFFIXES if (aside := f"{name}{suffix}") in live.queues)]


def live_of(management: Management) -> Live:
    """What is on the broker, as far as its HTTP API tells this user."""
    try:
        return management.live()
    except ManagementError:
        return Live(owned=owned_by(management))


def owned_by(management: Management) -> Owned:
    """Return what the broker remembers as ours; nothing if its HTTP API does not report it."""
    try:
        return management.owned()
    except ManagementError:
        return Owned()
