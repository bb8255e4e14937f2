"""The steps of messages in a frame, as moves along the edges of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.dashboard.edge_rates import EdgeRoutes

#: The maximum number of steps in a frame. Above this number, the page shows rates instead of dots.
MAX_STEPS = 300


class StepMoves:
    """The moves of all frames. Frames contain the numbers of edges and orders instead of their names."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """The names of all edges by number."""
        return list(self._numbers)

    def of(self, snapshot: Mapping[str, Any], routes: EdgeRoutes) -> tuple[dict[str, Any] | None, int, list[str]]:
        """Return the moves in a snapshot, the number of further steps, and the names of edges with new numbers."""
        steps = snapshot["steps"]
        more = max(0, len(steps) - MAX_STEPS) + snapshot.get("lost", 0)
        if not steps or more:
            return None, more, []
        known, began = len(self._numbers), steps[0][0]
        orders: dict[str, int] = {}
        moves: list[list[Any]] = []
        for at, slot, kind, other, key, order, attempt in steps:
            if edges := routes.of(slot.rpartition(".")[0], kind, other, key):
                numbers = [self._numbers.setdefault(one, len(self._numbers)) for one in edges]
                moves.append([at - began, orders.setdefault(order, len(orders)), kind, attempt, *numbers])
        return {"time": began, "orders": list(orders), "moves": moves}, 0, self.names[known:]
