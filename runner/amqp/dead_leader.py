"""A workaround for channels that publish to a dead node although a quorum queue has a new leader.

RabbitMQ 3.10 has this problem. Remove the workaround when the oldest supported RabbitMQ can use the new leader on the
same channel.
"""

from __future__ import annotations

#: Seconds of refusals before a new connection. Each new connection doubles the pause, from the first to the longest.
PAUSE = (0.5, 60.0)
#: Seconds without a new connection, after which the pause is reset to the first pause.
RESET_AFTER = 300.0

#: Exchange and routing key.
Route = tuple[str, str]


class DeadLeaderRefusals:
    """The refusals on a publisher's channel, with the time of the first refusal for each route.

    A channel may publish to a quorum queue for the first time just after the node of the queue's leader has died. The
    channel then keeps using that node. All events for the queue are refused until the node is back, even if there is a
    new leader. A new channel uses the new leader. (RabbitMQ 3.10.8, rabbit_fifo_client:enqueue/3. Measured: 17 s of
    refusals with a node that was down for 15 s.)

    A full queue refuses events in the same way, although it may accept an occasional event. So new connections for the
    same route become less frequent.
    """

    def __init__(self) -> None:
        self._since: dict[Route, float] = {}
        #: For each route, the pause before the next new connection, and the time of the last new connection.
        self._pauses: dict[Route, tuple[float, float]] = {}

    def forget(self) -> None:
        """Forget the refusals of the last channel."""
        self._since.clear()

    def confirmed(self, route: Route) -> None:
        """Record a confirmed event."""
        self._since.pop(route, None)

    def refused(self, route: Route, now: float) -> bool:
        """Record an event that was refused at ``now``, in seconds. Return True if a new connection is due."""
        self._pauses = {one: known for one, known in self._pauses.items() if now - known[1] < RESET_AFTER}
        pause, _ = self._pauses.get(route, (PAUSE[0], now))
        if now - self._since.setdefault(route, now) < pause:
            return False
        self._since.clear()
        self._pauses[route] = (min(pause * 2, PAUSE[1]), now)
        return True
