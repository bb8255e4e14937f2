"""One direction of a connection, which delays frames and may be cut at any moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tests.simulation.broker import Broker


class Wire:
    """One direction of a connection: frames arrive late and in order."""

    def __init__(self, broker: Broker) -> None:
        self._clock, self._random = broker.clock, broker.random
        self._frames: deque[Callable[[], None]] = deque()
        self._last = 0.0
        self._is_cut = False
        #: The virtual time until which the other side reads nothing.
        self.held_until = 0.0

    def send(self, frame: Callable[[], None]) -> None:
        if self._is_cut:
            return
        self._frames.append(frame)
        draw = self._random.random()
        delay = 0.0002 if draw < 0.5 else 0.003 if draw < 0.97 else 0.3
        self._last = max(self._last, self._clock.now + delay)
        self._clock.at(self._last, self._arrive)

    def _arrive(self) -> None:
        if self._frames and self._clock.now < self.held_until:
            self._clock.at(self.held_until, self._arrive)
        elif self._frames:
            self._frames.popleft()()

    def cut(self) -> None:
        """Send no more. Some of the frames on their way may still arrive."""
        self._is_cut = True
        for _ in range(self._random.randint(0, len(self._frames))):
            self._frames.popleft()()
        self._frames.clear()
