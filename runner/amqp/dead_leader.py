"""When the refusals of a cluster's nodes are worth a new connection.

A workaround: a channel of RabbitMQ 3.10 may ask a dead node for a quorum queue, although another node leads the queue.
It can go when the oldest supported RabbitMQ asks the new leader on the same channel.
"""

from __future__ import annotations

#: Seconds of refusals until a new connection is tried, doubled for each further one up to the second number; and
#: seconds without a new connection after which it begins with the first number again.
PAUSE, RESET_AFTER = (0.5, 60.0), 300.0

#: Exchange and routing key.
Route = tuple[str, str]


class DeadLeaderRefusals:
    """What is refused on a publisher's channel, by route and since when.

    A channel that publishes to a quorum queue for the first time while the node of its leader has just died asks that
    node ever after, and refuses all events for the queue until the node is back, though another leader was elected
    meanwhile; a new channel asks that one (RabbitMQ 3.10.8, rabbit_fifo_client:enqueue/3; measured: 17 s with a node
    that was away for 15 s). A full queue refuses in the same way, also one that takes an event now and then, so new
    connections for the same route become rare.
    """

    def __init__(self) -> None:
        self._since: dict[Route, float] = {}
        #: The pause before the next new connection for a route, and when the last one was.
        self._pauses: dict[Route, tuple[float, float]] = {}

    def forget(self) -> None:
        """Begin with a new channel."""
        self._since.clear()

    def taken(self, route: Route) -> None:
        """An event was confirmed."""
        self._since.pop(route, None)

    def refused(self, route: Route, now: float) -> bool:
        """An event was refused at ``now``, in seconds; returns whether to connect anew."""
        self._pauses = {one: known for one, known in self._pauses.items() if now - known[1] < RESET_AFTER}
        pause, _ = self._pauses.get(route, (PAUSE[0], now))
        if now - self._since.setdefault(route, now) < pause:
            return False
        self._since.clear()
        self._pauses[route] = (min(pause * 2, PAUSE[1]), now)
        return True
