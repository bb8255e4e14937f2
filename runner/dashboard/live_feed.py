"""The feed of frames, which starts the collector when the first page subscribes to it."""

from __future__ import annotations

from collections.abc import Callable

from runner.http.streams import Feed


class LiveFeed(Feed):
    """A feed that reports whether it has subscribers."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        super().__init__()
        self._on_change = on_change
        self.has_subscribers = False

    def connect(self, wake: Callable[[Feed], None] | None) -> None:
        """Call ``wake`` for each event from now on. ``wake`` is None when the last subscriber has left."""
        super().connect(wake)
        self.has_subscribers = wake is not None
        self._on_change()
