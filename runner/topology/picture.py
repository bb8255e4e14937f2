"""The graph as an SVG diagram, laid out in columns from publishers to consumers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from statistics import fmean

from runner.topology.graph import FILLS, Graph, GraphEdge, GraphNode, Shape

#: The width of a character, the height of a node, the gap between nodes, and the margin, in pixels.
CHARACTER, HEIGHT, GAP, MARGIN = 7.2, 40, 18, 20
#: The height of the lane for an edge that passes through a column, in pixels.
LANE = 12
#: The minimum gap between columns, in pixels. A long label needs a larger gap.
COLUMN_GAP = 56
#: The maximum number of characters in a label. A longer label is shortened, and its full text becomes a tooltip.
MOST_CHARACTERS = 34
#: The number of passes that improve the order of boxes within columns.
SWEEPS = 12


@dataclass
class _Box:
    """A node in a column, or the lane of an edge that passes through the column."""

    node: GraphNode | None
    column: int
    width: float
    height: float = HEIGHT
    x: float = 0.0
    y: float = 0.0

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@dataclass
class _Way:
    """An edge with its source, its lanes and its target."""

    edge: GraphEdge
    boxes: list[_Box]


def svg(graph: Graph) -> str:
    """Return the graph as an SVG diagram without external fonts, scripts or styles."""
    boxes, ways = _laid_out(graph)
    width = max((box.x + box.width for box in boxes), default=0) + MARGIN
    height = max((box.y + box.height for box in boxes), default=0) + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" font-family="system-ui, sans-serif" font-size="13">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#57606a"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" fill="#ffffff"/>',
        *(_line(way) for way in ways),
        *(_label(way) for way in ways if way.edge.label),
        *(_node(box, box.node) for box in boxes if box.node is not None),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _laid_out(graph: Graph) -> tuple[list[_Box], list[_Way]]:
    columns = _columns(graph)
    by_id = {
        node.id: _Box(node, columns[node.id], max(len(node.name), len(node.note)) * CHARACTER + 28)
        for node in graph.nodes
    }
    boxes, ways = list(by_id.values()), []
    for edge in graph.edges:
        source, target = by_id[edge.source], by_id[edge.target]
        between = [_Box(None, number, 0, LANE) for number in range(source.column + 1, target.column)]
        boxes += between
        ways.append(_Way(edge, [source, *between, target]))
    rows: dict[int, list[_Box]] = defaultdict(list)
    for box in boxes:
        rows[box.column].append(box)
    _order(rows, ways)
    x = float(MARGIN)
    for column in sorted(rows):
        widest = max(box.width for box in rows[column])
        for box in rows[column]:
            box.x = x if box.node is None else x + (widest - box.width) / 2
            box.width = box.width if box.node is not None else widest
        labels = [len(_short(way.edge.label)) for way in ways if way.boxes[0].column == column]
        x += widest + max(COLUMN_GAP, max(labels, default=0) * CHARACTER * 0.8 + 30)
    return boxes, ways


def _columns(graph: Graph) -> dict[str, int]:
    """Return the column of each node, which is the length of the longest route to the node without cycles."""
    following: dict[str, list[str]] = defaultdict(list)
    for edge in graph.edges:
        following[edge.source].append(edge.target)
    forward: dict[str, list[str]] = {node.id: [] for node in graph.nodes}
    finished: set[str] = set()
    for start in forward:
        trail: dict[str, list[str]] = {}
        stack = [start]
        while stack:
            here = stack[-1]
            if here in finished:
                stack.pop()
                continue
            waiting = trail.setdefault(here, list(following[here]))
            if not waiting:
                finished.add(here)
                del trail[here]
                stack.pop()
                continue
            target = waiting.pop(0)
            if target in trail:
                continue  # this edge closes a cycle
            forward[here].append(target)
            if target not in finished:
                stack.append(target)
    incoming = {name: 0 for name in forward}
    for targets in forward.values():
        for target in targets:
            incoming[target] += 1
    columns = {name: 0 for name in forward}
    ready = [name for name, count in incoming.items() if count == 0]
    while ready:
        name = ready.pop()
        for target in forward[name]:
            columns[target] = max(columns[target], columns[name] + 1)
            incoming[target] -= 1
            if incoming[target] == 0:
                ready.append(target)
    return columns


def _order(rows: dict[int, list[_Box]], ways: Iterable[_Way]) -> None:
    """Place each box near the mean position of its neighbours, so that few edges cross."""
    near: dict[int, list[_Box]] = defaultdict(list)
    for way in ways:
        for one, other in pairwise(way.boxes):
            near[id(one)].append(other)
            near[id(other)].append(one)
    for column in rows.values():
        _stack(column, [float(number) for number, _ in enumerate(column)])
    for sweep in range(SWEEPS):
        for number in sorted(rows, reverse=sweep % 2 == 1):
            column = rows[number]
            wanted = {id(box): fmean([one.middle for one in near[id(box)]] or [box.middle]) for box in column}
            column.sort(key=lambda box, wanted=wanted: wanted[id(box)])  # type: ignore[misc]
            _stack(column, [wanted[id(box)] - box.height / 2 for box in column])
    top = min((box.y for column in rows.values() for box in column), default=0) - MARGIN
    for column in rows.values():
        for box in column:
            box.y -= top


def _stack(column: list[_Box], wanted: list[float]) -> None:
    """Place boxes as close to their wanted positions as the gaps between boxes allow."""
    bottom = float("-inf")
    for box, y in zip(column, wanted, strict=True):
        box.y = max(bottom, y)
        bottom = box.y + box.height + GAP
    shift = fmean(box.y - y for box, y in zip(column, wanted, strict=True))
    for box in column:
        box.y -= shift


def _line(way: _Way) -> str:
    dash = ' stroke-dasharray="5 4"' if way.edge.is_dashed else ""
    return (
        f'<path d="{_path(way.boxes)}" fill="none" stroke="#57606a" stroke-width="1.4" marker-end="url(#arrow)"{dash}/>'
    )


def _path(boxes: list[_Box]) -> str:
    source, target = boxes[0], boxes[-1]
    if target.column <= source.column:
        # An edge to an earlier column, or within a column, is drawn below the boxes.
        x1, y1, x2, y2 = source.x + source.width, source.middle, target.x - 2, target.middle
        low = max(y1, y2) + HEIGHT
        return f"M{x1:.1f} {y1:.1f}C{x1 + 50:.1f} {low:.1f} {x2 - 50:.1f} {low:.1f} {x2:.1f} {y2:.1f}"
    parts = [f"M{source.x + source.width:.1f} {source.middle:.1f}"]
    for one, other in pairwise(boxes):
        x1, x2 = one.x + one.width, other.x - (2 if other is target else 0)
        bend = (x2 - x1) / 2
        parts.append(
            f"C{x1 + bend:.1f} {one.middle:.1f} {x2 - bend:.1f} {other.middle:.1f} {x2:.1f} {other.middle:.1f}"
        )
        if other is not target:
            parts.append(f"H{other.x + other.width:.1f}")
    return "".join(parts)


def _label(way: _Way) -> str:
    source, target = way.boxes[0], way.boxes[1]
    # The label is closer to the end of the edge, because several edges may start at the same point.
    share = 0.56
    x = source.x + source.width + (target.x - source.x - source.width) * share
    y = source.middle + (target.middle - source.middle) * (3 * share**2 - 2 * share**3) - 4
    short = _short(way.edge.label)
    title = f"<title>{escape(way.edge.label)}</title>" if short != way.edge.label else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="11" fill="#57606a" stroke="#ffffff"'
        f' stroke-width="4" paint-order="stroke">{title}{escape(short)}</text>'
    )


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _node(box: _Box, node: GraphNode) -> str:
    fill, stroke = FILLS[node.shape]
    style = f'fill="{fill}" stroke="{stroke}" stroke-width="1.5"'
    x, y, w = box.x, box.y, box.width
    if node.shape is Shape.EXCHANGE:
        corners = f"{x + 10:.1f},{y} {x + w - 10:.1f},{y} {x + w:.1f},{box.middle} {x + w - 10:.1f},{y + HEIGHT}"
        outline = f'<polygon points="{corners} {x + 10:.1f},{y + HEIGHT} {x:.1f},{box.middle}" {style}/>'
    else:
        radius = 18 if node.shape is Shape.SERVICE else 4
        outline = f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{HEIGHT}" rx="{radius}" {style}/>'
    middle = f'x="{x + w / 2:.1f}" text-anchor="middle" fill="#1f2328"'
    if not node.note:
        return f'{outline}<text {middle} y="{box.middle + 4.5:.1f}">{escape(node.name)}</text>'
    return (
        f'{outline}<text {middle} y="{box.middle - 2:.1f}">{escape(node.name)}</text>'
        f'<text {middle} y="{box.middle + 13:.1f}" font-size="10.5" opacity="0.75">{escape(node.note)}</text>'
    )
