"""The badges under a node, with their widths and words."""

from __future__ import annotations

from runner.topology.picture.drawing import Badge, Label
from runner.topology.picture.folding import BadgeKind, FoldedBadge, FoldedNode
from runner.topology.picture.text_width import DETAIL, short_name, width_of

#: The widths of badges with live figures.
LIVE_BADGES = {BadgeKind.DEAD: 96.0, BadgeKind.RETRY: 112.0, BadgeKind.UNROUTED: 120.0}


def badge_at(badge: FoldedBadge, node: FoldedNode, x: float, y: float, is_live: bool) -> Badge:
    """Return a badge with its upper left corner at a position."""
    width = badge_width(badge, node, is_live)
    title, value, unit = _badge_words(badge, node)
    text = "" if is_live else short_name(_static_text(badge, node))
    label = Label(
        x + 22, y + 13, text, "detail", width - 30, value=value if is_live else "", unit=unit if is_live else ""
    )
    return Badge(badge.kind.value, x, y, width, label, title, value if is_live else "")


def badge_width(badge: FoldedBadge, node: FoldedNode, is_live: bool) -> float:
    """Return the width of a badge in pixels."""
    if is_live:
        return LIVE_BADGES[badge.kind]
    return width_of(short_name(_static_text(badge, node)), DETAIL) + 30


def _static_text(badge: FoldedBadge, node: FoldedNode) -> str:
    # The usual name of a dead-letter queue repeats the name of its queue.
    usual = badge.kind is BadgeKind.DEAD and badge.queues[0] == f"{node.name}.dlq"
    return "dead letters" if usual else badge.queues[0] if badge.queues else node.note


def _badge_words(badge: FoldedBadge, node: FoldedNode) -> tuple[str, str, str]:
    """Return the title of a badge, the path of its figure, and the word after the figure."""
    names = ", then ".join(badge.queues)
    match badge.kind:
        case BadgeKind.DEAD:
            return f"dead letters of {node.name}: {names}", f"queues/{node.name}/dead", "dead"
        case BadgeKind.RETRY:
            return f"{node.name}: {node.note}", f"queues/{node.name}/retry", "in retry"
        case BadgeKind.UNROUTED:
            title = f"unrouted messages of {node.name}: exchange {badge.exchange}, then {names}"
            return title, f"queues/{badge.queues[0]}/ready", "unrouted"
