"""The texts in a node of a chain, and the size that they need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from runner.topology.graph import EdgeKind, Shape
from runner.topology.picture.description import described
from runner.topology.picture.drawing import Badge, DrawnNode, Label, Level
from runner.topology.picture.folding import BadgeKind, FoldedBadge, FoldedGraph, FoldedNode
from runner.topology.picture.key_chip import MOST_KEYS, Key, chip_at, few_keys, keys_of
from runner.topology.picture.node_badge import badge_at, badge_width
from runner.topology.picture.text_width import DETAIL, NAME, short_name, width_of, wrapped

#: The space between a border and a text, and between two texts.
PADDING, GAP = 12.0, 6.0
#: The height of a line of chips, of a row of details, and of the badges under a node.
CHIP_LINE, ROW, FOOT = 22.0, 18.0, 22.0
#: The height of a line of an exchange's name, and the width from which the name has two lines.
TITLE_LINE, WIDE_TITLE = 15.0, 150.0
#: The widths that are reserved for a rate, such as ``1,204/s``, and for the number of instances.
RATE, INSTANCES = 52.0, 30.0
#: The minimum width of each kind of node, and of a queue with live figures.
LEAST = {Shape.SERVICE: 140.0, Shape.EXCHANGE: 140.0, Shape.QUEUE: 160.0}
LIVE_QUEUE = 246.0
#: The width of the growth of a queue, such as ``99/s`` after a triangle.
GROWTH = 40.0


@dataclass(frozen=True)
class Card:
    """A node of a chain before it has a position."""

    node: FoldedNode
    graph: FoldedGraph
    is_live: bool
    #: The minimum height, for a service with many queues.
    least_height: float = 0.0

    @cached_property
    def keys(self) -> list[Key]:
        """The keys of the bindings that lead to the node."""
        return keys_of(self.graph.bindings_of(self.node.id), self.graph)

    @cached_property
    def title(self) -> list[str]:
        """The lines of the name of an exchange."""
        return wrapped(self.node.name, WIDE_TITLE)

    @cached_property
    def published(self) -> list[str]:
        """The routing keys that a service publishes, at most four, the last of which counts the others."""
        edges = self.graph.out_of(self.node.id, EdgeKind.PUBLISH)
        return _few(list(dict.fromkeys(short_name(key) for one in edges for key in one.keys)))

    @property
    def details(self) -> list[tuple[str, str]]:
        """The live figures of a service, with their paths."""
        if not self.is_live or self.node.shape is not Shape.SERVICE:
            return []
        path = f"services/{self.node.name}"
        if not self.is_consumer:
            return [("published", f"{path}/rate")]
        return [
            ("handled", f"{path}/rate"),
            ("in flight", f"{path}/in_flight"),
            ("handler time", f"{path}/handler_time"),
        ]

    @property
    def is_consumer(self) -> bool:
        """True if the node is a service that consumes a queue."""
        return bool(self.graph.into(self.node.id, EdgeKind.CONSUME))

    @cached_property
    def width(self) -> float:
        """The width that the texts need."""
        name = short_name(self.node.name)
        needed = [LEAST[self.node.shape]]
        if self.node.shape is Shape.SERVICE:
            needed.append(width_of(name, NAME, bold=True) + (18 + INSTANCES if self.is_live else 0) + 2 * PADDING)
            needed += [width_of(text, DETAIL) + RATE + 2 * PADDING for text, _ in self.details]
            needed += [width_of(key, DETAIL, monospace=True) + 2 * PADDING for key in self.published]
        elif self.node.shape is Shape.EXCHANGE:
            needed += [width_of(line, NAME, bold=True) + 3 * PADDING for line in self.title]
            needed += [key.width + 4 * PADDING for key in few_keys(self.keys)]
        else:
            needed.append(width_of(name, NAME) + 2 * PADDING)
            needed += [key.width + 2 * PADDING for key in self.keys]
            needed += [key.width + GAP + RATE + 2 * PADDING for key in self.keys[:1] if self.is_live]
            needed.append(LIVE_QUEUE if self.is_live else width_of(self.note, DETAIL) + 2 * PADDING)
        badges = [badge_width(one, self.node, self.is_live) for one in self._badges]
        needed.append(sum(badges) + GAP * (len(badges) - 1))
        return float(-(-max(needed) // 1))

    @property
    def note(self) -> str:
        """The retry delays of a queue, which are shown if there are no live figures."""
        return "" if self.is_live or self.node.shape is not Shape.QUEUE else self.node.note

    def height_at(self, width: float) -> float:
        """Return the height at a width, without the badges."""
        if self.node.shape is Shape.SERVICE:
            rows = len(self.details) + len(self.published)
            return max(36.0 + (ROW * rows + 10 if rows else 0), self.least_height)
        if self.node.shape is Shape.EXCHANGE:
            return 31.0 + TITLE_LINE * len(self.title) + CHIP_LINE * len(few_keys(self.keys))
        figures = 28.0 if self.is_live or self.note else 0.0
        # The rate stands in the first line of chips.
        lines = max(len(self._lines(width)), int(self.is_live))
        return 36.0 + CHIP_LINE * lines + figures

    @property
    def foot(self) -> float:
        """The height of the badges under the node."""
        return FOOT if self._badges else 0.0

    @property
    def _badges(self) -> list[FoldedBadge]:
        return [one for one in self.node.badges if self.is_live or one.kind is not BadgeKind.RETRY]

    def _lines(self, width: float) -> list[list[Key]]:
        """Return the chips of each line. The first line leaves room for the rate."""
        room = width - 2 * PADDING
        lines: list[list[Key]] = []
        used = 0.0
        for key in self.keys:
            limit = room - (RATE if self.is_live and len(lines) == 1 else 0)
            if not lines or used + key.width > limit:
                lines.append([])
                used = 0.0
            lines[-1].append(key)
            used += key.width + GAP
        return lines

    def drawn(self, x: float, y: float, width: float) -> DrawnNode:
        """Return the node at a position."""
        parts = {
            Shape.SERVICE: self._service,
            Shape.EXCHANGE: self._exchange,
            Shape.QUEUE: self._queue,
            Shape.DEAD_LETTER_QUEUE: self._queue,
        }[self.node.shape]
        return parts(x, y, width)

    def _service(self, x: float, y: float, width: float) -> DrawnNode:
        name, right = self.node.name, x + width - PADDING
        short = short_name(name)
        left = x + PADDING + (18 if self.is_live else 0)
        labels = [Label(left, y + 23, short, "title", width_of(short, NAME, bold=True), title=name)]
        if self.is_live:
            labels.append(
                Label(right, y + 23, "", "detail", INSTANCES - GAP, "end", value=f"services/{name}/instances")
            )
        row = y + 54
        for text, path in self.details:
            labels.append(Label(x + PADDING, row, text, "detail", width_of(text, DETAIL)))
            labels.append(Label(right, row, "", "detail", RATE - GAP, "end", value=path))
            row += ROW
        for key in self.published:
            labels.append(Label(x + PADDING, row, key, "key", width_of(key, DETAIL, monospace=True)))
            row += ROW
        has_rows = row > y + 54
        return DrawnNode(
            self.node.id, self.node.shape, name, x, y, width, self.height_at(width), tuple(labels),
            mark=(x + PADDING, y + 12.5), rule=y + 35.5 if has_rows else None,
            description=described(self.node, self.graph),
        )  # fmt: skip

    def _exchange(self, x: float, y: float, width: float) -> DrawnNode:
        middle = x + width / 2
        kind = f"{self.node.note} exchange" if self.node.note else "exchange"
        labels = [
            Label(middle, y + 20 + TITLE_LINE * number, line, "title", width_of(line, NAME, bold=True), "middle")
            for number, line in enumerate(self.title)
        ]
        if self.title != [self.node.name]:
            labels[0] = replace(labels[0], title=self.node.name)
        below = y + 21 + TITLE_LINE * len(self.title)
        labels.append(Label(middle, below, kind, "detail", width_of(kind, DETAIL), "middle"))
        chips = []
        for number, key in enumerate(few_keys(self.keys)):
            top = below + 6 + CHIP_LINE * number
            chips.append(chip_at(key, middle - key.width / 2, top))
        height = self.height_at(width)
        return DrawnNode(
            self.node.id, self.node.shape, self.node.name, x, y, width, height, tuple(labels), tuple(chips),
            tuple(self._drawn_badges(x, y + height + 4, width)), description=described(self.node, self.graph),
        )  # fmt: skip

    def _queue(self, x: float, y: float, width: float) -> DrawnNode:
        name = self.node.name
        labels = [name_label(name, x + PADDING, y + 20)]
        chips, line = [], y + 29
        for keys in self._lines(width):
            left = x + PADDING
            for key in keys:
                chips.append(chip_at(key, left, line))
                left += key.width + GAP
            line += CHIP_LINE
        bottom, path = y + self.height_at(width), f"queues/{name}"
        if self.is_live:
            labels += [
                Label(x + width - PADDING, y + 42, "", "detail", RATE - GAP, "end", value=f"{path}/rate"),
                Label(x + PADDING, bottom - 15, "", "figure", 84.0, value=f"{path}/ready", unit="ready"),
                Label(x + PADDING + 94, bottom - 15, "", "figure", 83.0, value=f"{path}/unacked", unit="unacked"),
            ]
        elif self.note:
            labels.append(Label(x + PADDING, bottom - 16, self.note, "detail", width_of(self.note, DETAIL)))
        badges = [*self._drawn_badges(x, bottom + 4, width), *self._growth(x + width - PADDING, bottom - 26)]
        return DrawnNode(
            self.node.id, self.node.shape, name, x, y, width, bottom - y, tuple(labels), tuple(chips), tuple(badges),
            Level(x + 0.5, bottom - 7, width - 1, 6.5), description=described(self.node, self.graph),
        )  # fmt: skip

    def _growth(self, right: float, y: float) -> Iterator[Badge]:
        if self.is_live:
            path = f"queues/{self.node.name}/growth"
            text = Label(right, y + 11, "", "detail", GROWTH - 14, "end", value=path)
            yield Badge("growth", right - GROWTH, y, GROWTH, text, "the number of ready messages grows", path, 14.0)

    def _drawn_badges(self, x: float, y: float, width: float) -> Iterator[Badge]:
        left = x
        for one in self._badges:
            badge = badge_at(one, self.node, left, y, self.is_live)
            left += badge.width + GAP
            yield badge


def name_label(name: str, x: float, y: float) -> Label:
    """Return the name of a queue, whose first segment is faint."""
    short = short_name(name)
    faint = short.find(".") + 1
    return Label(x, y, short, "name", width_of(short, NAME), faint=faint, title=name)


def _few(texts: list[str]) -> list[str]:
    return texts if len(texts) <= MOST_KEYS else [*texts[: MOST_KEYS - 1], f"{len(texts) - MOST_KEYS + 1} more"]
