"""How many messages queues hold: ready ones by their own word, those in somebody's hands by the statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runner.admin.management import Management, ManagementError
from runner.admin.queue_counts import look
from runner.errors import RunnerError
from runner.topology.live import Live


@dataclass(frozen=True)
class Holding:
    """What one queue holds."""

    #: In nobody's hands, at this moment.
    ready: int = 0
    #: In somebody's hands, some seconds ago; None where it is not known.
    in_hand: int | None = 0


def holdings(url: str, management: Management, queues: Sequence[str]) -> dict[str, Holding]:
    """What each of some queues holds, asked in their order; one that is not there holds nothing.

    Raises BrokerAway, and RunnerError where this user may not know.
    """
    try:
        columns = "?columns=name,messages_unacknowledged"
        found = management.request("GET", "queues", management.vhost, query=columns)
        in_hands = {str(one["name"]): one.get("messages_unacknowledged") for one in found}
    except ManagementError:
        in_hands = {}
    _, counts = look([url], list(queues))
    result = {}
    for name, count in counts.items():
        # A queue that the statistics do not know yet is too new to tell; without a consumer nothing is in hands.
        known = in_hands.get(name)
        in_hand = known if known is not None or count is None or count.consumers else 0
        result[name] = Holding() if count is None else Holding(count.messages, in_hand)
    return result


def counted_by_queues(live: Live, urls: Sequence[str], names: Sequence[str]) -> Live:
    """Ask some queues themselves for the counts that the HTTP API does not report; some may stay unknown.

    A queue reports its ready messages only. It has no unacked messages if it has no consumer.
    """
    try:
        _, found = look(urls, names, {})
    except RunnerError:
        return live
    queues = dict(live.queues)
    for name in names:
        if (counts := found.get(name)) is not None:
            messages = counts.messages if counts.messages or not counts.consumers else None
            queues[name] = replace(queues[name], messages=messages, consumers=counts.consumers)
    return replace(live, queues=queues)
