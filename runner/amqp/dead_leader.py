"""A workaround for channels that publish to a dead node although the quorum queue has a new leader.

RabbitMQ 3.10 has this bug. The workaround can be removed when the oldest supported RabbitMQ uses the new leader on the
same channel.
"""

from __future__ import annotations

#: The shortest and longest pause in seconds between the first refusal and a new connection. Each new connection doubles
#: the pause.
PAUSE = (0.5, 60.0)
#: The time in seconds without a new connection after which the pause is reset.
RESET_AFTER = 300.0

#: Exchange and routing key.
Route = tuple[str, str]


class DeadLeaderRefusals:
    """The refusals on a publisher's channel, with the time of the first refusal for each route.

    If a channel first publishes to a quorum queue just after the leader's node has died, the channel keeps using that
    node. All events for the queue are refused until the node is back, even if the queue has a new leader. A new channel
    uses the new leader. In a test with RabbitMQ 3.10.8 (rabbit_fifo_client:enqueue/3), a node that was down for 15 s
    caused refusals for 17 s.

    A full queue also refuses events, although it may accept an occasional event. To limit the number of new
    connections, each new connection doubles the pause for its route.
    """

    def __init__(self) -> None:
        self._since: dict[Route, float] = {}
        #: The pause before the next new connection, and the time of the last new connection, for each route.
        self._pauses: dict[Route, tuple[float, float]] = {}

    def forget(self) -> None:
        """Forget the refusals on the previous channel."""
        self._since.clear()

    def confirmed(self, route: Route) -> None:
        """Record a confirmed event."""
        self._since.pop(route, None)

    def refused(self, route: Route, now: float) -> bool:
        """Record a refused event. Return True if a new connection is due. ``now`` is the time in seconds."""
        self._pauses = {one: known for one, known in self._pauses.items() if now - known[1] < RESET_AFTER}
        pause, _ = self._pauses.get(route, (PAUSE[0], now))
        if now - self._since.setdefault(route, now) < pause:
            return False
        self._since.clear()
        self._pauses[route] = (min(pause * 2, PAUSE[1]), now)
        return True
