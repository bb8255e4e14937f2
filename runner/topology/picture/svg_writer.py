"""The SVG of a drawing: a file with its own style, or a part of a page with live figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from runner.escape import one_line
from runner.topology.graph import Shape
from runner.topology.picture.drawing import Badge, Chip, Drawing, DrawnEdge, DrawnNode, Label, Point
from runner.topology.picture.mark_shape import BADGES, STATES
from runner.topology.picture.picture_style import file_style

#: The radius of the corners of edges.
CORNER = 8.0
#: The text of a figure that is not known, a dash.
UNKNOWN = "\u2013"
_RADII = {Shape.SERVICE: 10, Shape.QUEUE: 3, Shape.DEAD_LETTER_QUEUE: 3}


def svg_file(drawing: Drawing) -> str:
    """Return a drawing as an SVG file that needs no external fonts, scripts or styles."""
    width, height = _number(drawing.width), _number(drawing.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-.5 -.5 {width} {height}" width="{width}" height="{height}"'
        f' class="picture {drawing.form.value}" role="img" aria-label="The topology">',
        f"<style>\n{file_style()}</style>",
        _markers(("",)),
        f'<rect class="ground" width="{_number(drawing.width - 1)}" height="{_number(drawing.height - 1)}" rx="8"/>',
        *_parts(drawing, {}),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def svg_part(drawing: Drawing, figures: Mapping[str, str], label: str, width: float = 0.0) -> str:
    """Return a drawing as an SVG element for a page whose stylesheet contains the rules of the picture.

    ``figures`` are the texts of live figures by path, and the states of services, such as ``services/payment/state``.
    A drawing that is narrower than ``width`` stands in the middle.
    """
    left = min(0.0, (drawing.width - width) / 2)
    box = f"{_number(left - 0.5)} -.5 {_number(max(drawing.width, width))} {_number(drawing.height)}"
    lines = [
        f'<svg viewBox="{box}" class="picture {drawing.form.value}" role="group" aria-label="{_escaped(label)}"'
        f' data-form="{drawing.form.value}">',
        _markers(("", "match", "retry", "dead")),
        *_parts(drawing, figures),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _markers(kinds: Sequence[str]) -> str:
    shapes = "".join(
        f'<marker id="picture-arrow{"-" if kind else ""}{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
        f' markerHeight="7" markerUnits="userSpaceOnUse" orient="auto"><path class="{f"arrow {kind}".strip()}"'
        ' d="M0 .5L8 4 0 7.5z"/></marker>'
        for kind in kinds
    )
    return f"<defs>{shapes}</defs>"


def _parts(drawing: Drawing, figures: Mapping[str, str]) -> Iterator[str]:
    yield from (_label(label, figures) for label in drawing.heads)
    # The ways of given-up messages are drawn last, because they are shown only while messages use them.
    for edge in sorted(drawing.edges, key=lambda one: one.kind in ("retry", "dead")):
        yield _edge(edge)
    # A box covers the part of the ways between its rows and its border.
    for box in drawing.boxes:
        yield (
            f'<rect class="outline" x="{_number(box.x)}" y="{_number(box.y)}" width="{_number(box.width)}"'
            f' height="{_number(box.height)}" rx="3"/>'
        )
        if box.rules:
            lines = "".join(f"M{_number(box.x + 1)} {_number(y)}h{_number(box.width - 2)}" for y in box.rules)
            yield f'<path class="rule" d="{lines}"/>'
    for node in drawing.nodes:
        yield _node(node, figures, drawing.is_live)


def _edge(edge: DrawnEdge) -> str:
    classes = f"edge {edge.kind}" + (" none" if edge.kind in ("retry", "dead") else "")
    classes += " covered" if edge.is_covered else ""
    arrow = "" if edge.is_covered else ' marker-end="url(#picture-arrow)"'
    keys = f' data-keys="{_escaped(json.dumps(list(edge.keys), ensure_ascii=False))}"' if edge.keys else ""
    return (
        f'<path class="{classes}" data-edge="{_escaped(edge.id)}" data-from="{_escaped(edge.source)}"'
        f' data-to="{_escaped(edge.target)}"{keys}{arrow} d="{_path(edge.points)}"/>'
    )


def _path(points: Sequence[Point]) -> str:
    """Return a path along points, with rounded corners."""
    corners = _without_repeats(points)
    text = f"M{_pair(corners[0])}"
    for before, here, after in zip(corners, corners[1:], corners[2:], strict=False):
        radius = min(CORNER, _distance(before, here) / 2, _distance(here, after) / 2)
        text += f"L{_pair(_towards(here, before, radius))}Q{_pair(here)} {_pair(_towards(here, after, radius))}"
    return text + f"L{_pair(corners[-1])}"


def _without_repeats(points: Sequence[Point]) -> list[Point]:
    found: list[Point] = []
    for point in points:
        if not found or _distance(found[-1], point) > 0.01:
            found.append(point)
    return found if len(found) > 1 else [*points]


def _distance(one: Point, other: Point) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _towards(start: Point, end: Point, distance: float) -> Point:
    length = _distance(start, end) or 1.0
    return (
        start[0] + (end[0] - start[0]) * distance / length,
        start[1] + (end[1] - start[1]) * distance / length,
    )


def _node(node: DrawnNode, figures: Mapping[str, str], is_live: bool) -> str:
    name = _escaped(node.id)
    classes = f"node {node.shape.value}" + (" row" if node.is_row else "")
    hidden = ' aria-hidden="true"' if is_live else ""
    parts = [
        f'<g class="{classes}" data-node="{name}"' + (f' data-place="{node.place}"' if node.place else "") + ">",
        f"<g{hidden}>",
        f"<title>{_escaped(node.name)}</title>" if not is_live else "",
        _outline(node, 'class="outline"'),
    ]
    if node.rule is not None:
        ends = f'x1="{_number(node.x + 0.5)}" x2="{_number(node.x + node.width - 0.5)}"'
        parts.append(f'<line class="rule" {ends} y1="{_number(node.rule)}" y2="{_number(node.rule)}"/>')
    if node.mark is not None and is_live:
        path = f"services/{node.name}/state"
        state = figures.get(path, "stopped")
        parts.append(
            f'<path class="mark {_escaped(state)}" data-state="{_escaped(path)}"'
            f' transform="translate({_pair(node.mark)})" d="{STATES.get(state, STATES["stopped"])}"/>'
        )
    if node.level is not None:
        parts.append(_level(node, is_live))
    parts += [_chip(chip) for chip in node.chips]
    parts += [_label(label, figures) for label in node.labels]
    parts += [_badge(badge, figures) for badge in node.badges]
    parts.append("</g>")
    if is_live:
        parts.append(
            _outline(
                node,
                f'class="target" data-target="{name}" tabindex="0" role="button"'
                f' aria-label="{_escaped(node.description)}"',
            )
        )
    return "".join(parts) + "</g>"


def _outline(node: DrawnNode, attributes: str) -> str:
    x, y, width, height = node.x, node.y, node.width, node.height
    if node.shape is Shape.EXCHANGE:
        tip = min(12.0, height / 4)
        left, right = _number(x + tip), _number(x + width - tip)
        middle, bottom = _number(node.middle), _number(y + height)
        return (
            f'<path {attributes} d="M{left} {_number(y)}H{right}L{_number(x + width)} {middle} {right} {bottom}H{left}'
            f'L{_number(x)} {middle}z"/>'
        )
    return (
        f'<rect {attributes} x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" height="{_number(height)}"'
        f' rx="{2 if node.is_row else _RADII[node.shape]}"/>'
    )


def _level(node: DrawnNode, is_live: bool) -> str:
    level = node.level
    if level is None:
        return ""
    place = f'y="{_number(level.y)}" height="{_number(level.height)}"'
    bar = f'<rect class="level" x="{_number(level.x)}" width="{_number(level.width)}" {place}/>'
    if not is_live:
        return bar
    path, whole = _escaped(f"queues/{node.name}"), f'data-whole="{_number(level.width)}"'
    return bar + "".join(
        f'<rect class="{part}" data-level="{path}/{part}" {whole} x="{_number(level.x)}" width="0" {place}/>'
        for part in ("ready", "unacked")
    )


def _label(label: Label, figures: Mapping[str, str]) -> str:
    anchor = "" if label.anchor == "start" else f' text-anchor="{label.anchor}"'
    title = f"<title>{_escaped(label.title)}</title>" if label.title and label.title != label.text else ""
    text = _escaped(label.text[label.faint :])
    if label.faint:
        text = f'<tspan class="faint">{_escaped(label.text[: label.faint])}</tspan>{text}'
    if label.value:
        figure = _escaped(figures.get(label.value, UNKNOWN))
        text += f'<tspan data-value="{_escaped(label.value)}">{figure}</tspan>'
    if label.unit:
        text += f'<tspan class="unit"> {_escaped(label.unit)}</tspan>'
    place = f'x="{_number(label.x)}" y="{_number(label.y)}"'
    return f'<text class="{label.style}" {place}{anchor}>{title}{text}</text>'


def _chip(chip: Chip) -> str:
    return (
        f'<g class="chip" data-exchange="{_escaped(chip.exchange)}" data-key="{_escaped(chip.key)}">'
        f'<rect x="{_number(chip.x)}" y="{_number(chip.y)}" width="{_number(chip.width)}"'
        f' height="{_number(chip.height)}" rx="4"/>{_label(chip.label, {})}</g>'
    )


def _badge(badge: Badge, figures: Mapping[str, str]) -> str:
    is_empty = bool(badge.when) and figures.get(badge.when, UNKNOWN) in (UNKNOWN, "0")
    when = f' data-when="{_escaped(badge.when)}"' if badge.when else ""
    inset = 8 if badge.height > 14 else 0
    return (
        f'<g class="badge {badge.kind}{" none" if is_empty else ""}"{when}><title>{_escaped(badge.title)}</title>'
        f'<rect x="{_number(badge.x)}" y="{_number(badge.y)}" width="{_number(badge.width)}"'
        f' height="{_number(badge.height)}" rx="{_number(badge.height / 2)}"/>'
        f'<path transform="translate({_pair((badge.x + inset, badge.y + (badge.height - 10) / 2))}) scale(.7)"'
        f' d="{BADGES[badge.kind]}"/>{_label(badge.label, figures)}</g>'
    )


def _escaped(text: str) -> str:
    # XML does not allow control characters.
    return escape(one_line(text))


def _pair(point: Point) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
