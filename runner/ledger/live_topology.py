"""The topology on the broker, with the existing bindings and all queues that may contain a project's messages."""

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

#: For each dead-letter queue, the queues that dead-letter messages to it.
OriginQueues = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class MessagePlaces:
    """The queues on a broker that may contain a project's messages."""

    url: str
    management: Management
    origins: Origins
    #: For each consumed queue, the queue and its retry queues, in the order in which a message passes through them.
    own: Mapping[str, tuple[str, ...]]
    #: The queue for attempt reports. None if attempts are not recorded.
    reports: str | None
    #: The queues that services consume.
    consumed: frozenset[str]

    @classmethod
    def of(cls, queues: OpenQueues, objects: Objects, live: Live, reports: str | None) -> MessagePlaces:
        """Return the queues of the project that opened ``queues``. ``reports`` is the queue for attempt reports."""
        origins = replace(queues.places, origins=dead_letter_queues(objects, queues.places.origins, live))
        consumed = queues.project.consumed
        names = {*consumed, *([reports] if reports is not None else [])}
        own = {name: own_queues(name, objects, live) for name in names}
        return cls(queues.url, queues.management, origins, own, reports, consumed)


def with_live_bindings(objects: Objects, live: Live) -> Objects:
    """Return ``objects`` with the bindings on the broker instead of the bindings in topology.yaml.

    The result includes FastCommerce's bindings that another client deleted. The messages that such a binding no longer
    routes are lost. If the broker has no record of FastCommerce's bindings, the bindings in topology.yaml are returned.
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
    """Yield a line for each binding that exists only in topology.yaml or only on the broker."""
    existing = with_live_bindings(objects, live).bindings
    keys, written = {one.key for one in existing}, {one.key for one in objects.bindings}
    queues, exchanges = {one.name for one in objects.queues}, {one.name for one in objects.exchanges}
    for one in objects.bindings:
        if one.key not in keys:
            yield f"binding {Change(Mark.CREATE, one).name}: not applied yet, and therefore ignored"
    for one in existing:
        if one.key not in written and one.destination in (queues if one.destination_type == "queue" else exchanges):
            name = Change(Mark.CHANGE, one).name
            yield f"binding {name}: not in topology.yaml but still on the broker, and therefore included"


def own_queues(queue: str, objects: Objects, live: Live) -> tuple[str, ...]:
    """Return a queue and its retry queues, in the order in which a message passes through them.

    The result includes the retry queues of removed delays, which still return their messages. The result also includes
    queues that an interrupted replacement has left behind.
    """
    retry = objects.retry_delays.get(queue)
    waiting = [name for _, name in retry.steps] if retry is not None else []
    known = {one.name for one in objects.queues}
    # Until the queue is renamed, its messages are in queues with the previous name.
    former = objects.formerly.get(queue)
    starts = tuple(f"{name}{RETRY}" for name in (queue, former) if name is not None)
    left = [name for name in sorted(live.owned.queues - known) if name.startswith(starts)]
    before = [former] if former is not None and former in live.queues else []
    return tuple(part for name in (*before, queue, *waiting, *left) for part in _with_drained(name, live))


def dead_letter_queues(objects: Objects, origins: OriginQueues, live: Live) -> OriginQueues:
    """Return ``origins`` with all other queues that may contain dead letters.

    The added queues were declared by FastCommerce, have no binding, and are no longer in topology.yaml, for example
    after a change to ``dead_letter``. Queues that an interrupted replacement of a dead-letter queue has left behind are
    also added.
    """
    known = {one.name for one in objects.queues}
    bound = {key[2] for key in live.owned.bindings | live.bindings.keys() if key[1] == "queue"}
    waits = [f"{name}.retry." for name in objects.retry_delays]
    left = live.owned.queues - known - bound
    found = dict(origins)
    for name in origins:
        found |= dict.fromkeys(_with_drained(name, live)[1:], origins[name])
    for name in sorted(left & live.queues.keys()):
        if not any(name.startswith(one) for one in waits):
            found.setdefault(name, ())
    return found


def _with_drained(name: str, live: Live) -> list[str]:
    return [name, *(drained for suffix in DRAIN_SUFFIXES if (drained := f"{name}{suffix}") in live.queues)]


def live_of(management: Management) -> Live:
    """Return the objects on the broker.

    If the HTTP API refuses this user, return only the record of FastCommerce's objects.
    """
    try:
        return management.live()
    except ManagementError:
        return Live(owned=owned_by(management))


def owned_by(management: Management) -> Owned:
    """Return the broker's record of FastCommerce's objects, or an empty record if the HTTP API returns none."""
    try:
        return management.owned()
    except ManagementError:
        return Owned()
