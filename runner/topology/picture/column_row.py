"""The rows of queues in columns, and the horizontal positions of the parts of a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from runner.topology.graph import EdgeKind
from runner.topology.picture.card import name_label
from runner.topology.picture.description import described
from runner.topology.picture.drawing import Badge, Chip, DrawnNode, Label, Level
from runner.topology.picture.folding import BadgeKind, FoldedEdge, FoldedGraph, FoldedNode
from runner.topology.picture.key_chip import Key, keys_of
from runner.topology.picture.text_width import DETAIL, NAME, fitted, short_name, width_of

#: The height of a line of a row, the space at both ends of a row, and the space between two parts.
LINE, PADDING, GAP = 20.0, 10.0, 12.0
#: The widths of a number of messages, of the bar beside the number, and of the triangle for growth.
NUMBER, BAR, GROWTH = 42.0, 44.0, 18.0
#: The width of the number of messages in retry or of dead letters, with its mark.
MARKED = 52.0
#: The minimum width of the column of keys.
LEAST_KEYS = 110.0


@dataclass(frozen=True)
class ColumnRow:
    """A queue in columns, with a line for each exchange that routes messages to the queue."""

    node: FoldedNode
    graph: FoldedGraph

    @cached_property
    def bindings(self) -> list[FoldedEdge]:
        """The bindings of the queue, one for each exchange."""
        return self.graph.bindings_of(self.node.id)

    @cached_property
    def routes(self) -> list[FoldedEdge]:
        """The routes of dead letters to an exchange or queue that is a node of its own."""
        return [one for one in self.graph.edges if one.source == self.node.id and one.kind is EdgeKind.DEAD_LETTER]

    @property
    def height(self) -> float:
        """The height of all lines."""
        return LINE * max(1, len(self.bindings) + len(self.routes))

    def level_of(self, exchange: str) -> float:
        """Return the distance of the line of an exchange from the top of the row."""
        return LINE * [one.source for one in self.bindings].index(exchange) + LINE / 2


@dataclass(frozen=True)
class RowParts:
    """The horizontal positions of the parts of all rows. Numbers are aligned at the right."""

    x: float
    width: float
    keys: float
    keys_width: float
    #: The width of the bar and the space before it, or 0 if the keys need its place.
    bar: float
    is_live: bool

    @classmethod
    def fitting(cls, rows: Sequence[ColumnRow], x: float, width: float, *, is_live: bool) -> RowParts:
        """Return the parts for rows in a box. The box is wider than ``width`` if the names need more."""
        names = max((width_of(short_name(row.node.name), NAME) for row in rows), default=0.0)
        figures = cls._figures(rows, is_live)
        keys = PADDING + names + GAP
        room = width - keys - GAP - figures - PADDING
        needed = max((_chip_width(key) for row in rows for key in keys_of(row.bindings, row.graph)), default=0.0)
        # The bar repeats the number beside it, so the keys may use its place.
        bar = BAR if is_live and room - BAR >= needed else 0.0
        keys_width = max(LEAST_KEYS, room - bar)
        return cls(x, keys + keys_width + GAP + bar + figures + PADDING, x + keys, keys_width, bar, is_live)

    @staticmethod
    def _figures(rows: Sequence[ColumnRow], is_live: bool) -> float:
        if is_live:
            return NUMBER + GROWTH + NUMBER + 2 * MARKED
        notes = [width_of(_delays(row), DETAIL) for row in rows if row.node.note]
        return max(notes) + PADDING if notes else 0.0

    @property
    def right(self) -> float:
        """The right end of the last part."""
        return self.x + self.width - PADDING

    @property
    def ready(self) -> float:
        """The right end of the number of ready messages."""
        return self.keys + self.keys_width + GAP + NUMBER

    @property
    def unacked(self) -> float:
        """The right end of the number of unacked messages."""
        return self.ready + self.bar + GROWTH + NUMBER

    def heads(self, y: float) -> Iterator[Label]:
        """Yield the heads of the parts."""
        found = [("Queues", self.x + PADDING, "start"), ("Binding keys", self.keys + 5, "start")]
        if self.is_live:
            found += [("Ready", self.ready, "end"), ("Unacked", self.unacked, "end")]
            found.append(("Retry, dead", self.right, "end"))
        elif self.keys + self.keys_width + GAP < self.right:
            found.append(("Retry delays", self.right, "end"))
        for text, x, anchor in found:
            yield Label(x, y, text, "head", width_of(text, DETAIL), anchor)

    def drawn(self, row: ColumnRow, y: float) -> DrawnNode:
        """Return a row at a vertical position."""
        name = row.node.name
        labels = [name_label(name, self.x + PADDING, y + 14)]
        chips = []
        for number, edge in enumerate(row.bindings):
            chips += list(self._chips(keys_of([edge], row.graph), y + LINE * number + 2))
        badges = list(self._routes(row, y + LINE * len(row.bindings)))
        level = None
        if self.is_live:
            path = f"queues/{name}"
            labels.append(Label(self.ready, y + 14, "", "figure", NUMBER, "end", value=f"{path}/ready"))
            labels.append(Label(self.unacked, y + 14, "", "figure", NUMBER, "end", value=f"{path}/unacked"))
            level = Level(self.ready + 8, y + 7, self.bar - 8, 6.0) if self.bar else None
            badges += list(self._badges(row, y))
        elif row.node.note:
            text = _delays(row)
            labels.append(Label(self.right, y + 14, text, "detail", width_of(text, DETAIL), "end"))
        return DrawnNode(
            row.node.id, row.node.shape, name, self.x, y, self.width, row.height, tuple(labels), tuple(chips),
            tuple(badges), level, is_row=True, description=described(row.node, row.graph),
        )  # fmt: skip

    def _chips(self, keys: Sequence[Key], y: float) -> Iterator[Chip]:
        left, end = self.keys, self.keys + self.keys_width
        for number, key in enumerate(keys):
            rest = len(keys) - number - 1
            more = Key(key.exchange, "", f"{rest + 1} more", ", ".join(one.key for one in keys[number:]))
            room = end - left - (_chip_width(more) + 4 if rest else 0)
            if number and _chip_width(key) > room:
                yield _chip(more, left, y)
                return
            shown = Key(key.exchange, key.key, fitted(key.text, room - 10, DETAIL, monospace=True), key.title)
            yield _chip(shown, left, y)
            left += _chip_width(shown) + 4

    def _routes(self, row: ColumnRow, y: float) -> Iterator[Badge]:
        for number, edge in enumerate(row.routes):
            text = fitted(f"to {short_name(edge.target.partition(' ')[2])}", self.keys_width - 24, DETAIL)
            label = Label(self.keys + 18, y + LINE * number + 14, text, "detail", width_of(text, DETAIL))
            width = label.width + 24
            title = f"dead letters of {row.node.name} go to {edge.target}"
            yield Badge("route", self.keys - 4, y + LINE * number + 1, width, label, title)

    def _badges(self, row: ColumnRow, y: float) -> Iterator[Badge]:
        path = f"queues/{row.node.name}"
        title = "the number of ready messages grows"
        growth = Label(self.ready + self.bar + GROWTH, y + 14, "", "detail", 0.0, "end")
        yield Badge("growth", self.ready + self.bar + 4, y + 4, 12.0, growth, title, f"{path}/growth", 12.0)
        kinds = {one.kind: one for one in row.node.badges}
        if BadgeKind.RETRY in kinds:
            yield self._marked("retry", self.right - MARKED, y, f"{path}/retry", f"waiting: {row.node.note}")
        if BadgeKind.DEAD in kinds:
            title = f"dead letters: {', then '.join(kinds[BadgeKind.DEAD].queues)}"
            yield self._marked("dead", self.right, y, f"{path}/dead", title)

    def _marked(self, kind: str, right: float, y: float, path: str, title: str) -> Badge:
        label = Label(right, y + 14, "", "detail", MARKED - 18, "end", value=path)
        return Badge(kind, right - MARKED + 4, y + 3, MARKED - 4, label, title, path, 14.0)


def _delays(row: ColumnRow) -> str:
    return row.node.note.removeprefix("retry ")


def _chip(key: Key, x: float, y: float) -> Chip:
    width = _chip_width(key)
    label = Label(x + 5, y + 12, key.text, "key", width - 10, title=key.title)
    return Chip(key.exchange, key.key, x, y, width, label, 16.0)


def _chip_width(key: Key) -> float:
    return width_of(key.text, DETAIL, monospace=True) + 10
