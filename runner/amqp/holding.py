"""How many messages queues hold: ready ones by their own word, those in somebody's hands by the statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.amqp.look import look
from runner.amqp.management import Management, ManagementError


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
