"""Where the messages of a project are: on which broker, and in which of its queues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from runner.admin.management import Management
from runner.admin.management_api import ManagementError
from runner.deadletters.open_queues import OpenQueues
from runner.deadletters.origins import Origins
from runner.ledger.live_topology import dead_letter_queues, own_queues
from runner.topology.live import Live, Owned
from runner.topology.model import Objects


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
