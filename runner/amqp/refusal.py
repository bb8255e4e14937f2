"""When what the broker refuses is worth a new connection."""

from __future__ import annotations

#: Seconds of refusals until a new connection is tried, doubled for each further one up to the second number.
PAUSE = (0.5, 60.0)

#: Exchange and routing key.
Route = tuple[str, str]


class Refusals:
    """What is refused on a publisher's channel, by route and since when.

    A channel that publishes to a quorum queue for the first time while the node of its leader has just died asks that
    node ever after, and refuses all events for the queue until the node is back, though another leader was elected
    meanwhile; a new channel asks that one (RabbitMQ 3.10.8, rabbit_fifo_client:enqueue/3; measured: 17 s with a node
    that was away for 15 s). A full queue refuses in the same way, so new connections become rare.
    """

    def __init__(self) -> None:
        self._since: dict[Route, float] = {}
        self._pause = PAUSE[0]
        self._last: Route | None = None

    def forget(self) -> None:
        """Begin with a new channel."""
        self._since.clear()

    def taken(self, route: Route) -> None:
        """An event was confirmed."""
        self._since.pop(route, None)
        if route == self._last:
            self._last, self._pause = None, PAUSE[0]

    def refused(self, route: Route, now: float) -> bool:
        """An event was refused at ``now``, in seconds; returns whether to connect anew."""
        if now - self._since.setdefault(route, now) < self._pause:
            return False
        self._since.clear()
        self._last, self._pause = route, min(self._pause * 2, PAUSE[1])
        return True
