"""A drawing of a topology: nodes and edges with their positions. All lengths are in pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from runner.topology.graph import Shape

#: A point of an edge.
Point = tuple[float, float]


class Form(StrEnum):
    """The arrangement of a drawing.

    A chain shows each service once, so that the path of a message is one line. Columns show publishers, exchanges,
    queues and consumers, and have room for many queues.
    """

    CHAIN = "chain"
    COLUMNS = "columns"


@dataclass(frozen=True)
class Label:
    """A text in a drawing, with the width that is reserved for it.

    ``value`` is the path of a live figure, such as ``queues/NAME/ready``, which stands between ``text`` and ``unit``.
    """

    x: float
    #: The baseline of the text.
    y: float
    text: str
    #: The class of the text: ``name``, ``title``, ``detail``, ``key``, ``figure`` or ``head``.
    style: str
    width: float
    anchor: str = "start"
    #: The number of characters at the start that are shown in a fainter color.
    faint: int = 0
    value: str = ""
    unit: str = ""
    #: The whole text if ``text`` is shortened.
    title: str = ""

    @property
    def left(self) -> float:
        """The left end of the reserved width."""
        return self.x - {"start": 0.0, "middle": self.width / 2, "end": self.width}[self.anchor]


@dataclass(frozen=True)
class Chip:
    """The key of a binding, in the queue or exchange to which the binding leads."""

    exchange: str
    key: str
    x: float
    y: float
    width: float
    label: Label
    height: float = 18.0


@dataclass(frozen=True)
class Badge:
    """A small box at a node: its dead letters, messages that wait for a retry, unrouted messages, or growth."""

    kind: str
    x: float
    y: float
    width: float
    label: Label
    title: str
    #: The path of the live figure. A page shows the badge only while this figure is not zero.
    when: str = ""
    height: float = 18.0


@dataclass(frozen=True)
class Level:
    """The bar of a queue that shows its ready and unacked messages."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class DrawnNode:
    """A service, exchange or queue with its position and its texts."""

    #: The kind and the name, such as ``queue payment.order.created``.
    id: str
    shape: Shape
    name: str
    x: float
    y: float
    width: float
    height: float
    labels: tuple[Label, ...] = ()
    chips: tuple[Chip, ...] = ()
    badges: tuple[Badge, ...] = ()
    level: Level | None = None
    #: The top left corner of the mark for the state of a service.
    mark: Point | None = None
    #: A line below the title of a service.
    rule: float | None = None
    #: ``publisher`` or ``consumer`` in columns, where a service may be drawn twice.
    place: str = ""
    #: True for a queue that is a row in a box with other queues.
    is_row: bool = False
    #: The description of the node for screen readers.
    description: str = ""

    @property
    def middle(self) -> float:
        """The vertical middle of the node."""
        return self.y + self.height / 2


@dataclass(frozen=True)
class DrawnEdge:
    """The path of messages between two nodes. The path turns only at right angles."""

    #: The ids of the source and target, such as ``exchange orders>queue work``. The ways of messages that a service
    #: gives up are ``service S>retry Q`` and ``service S>dead Q``.
    id: str
    kind: str
    source: str
    target: str
    points: tuple[Point, ...]
    keys: tuple[str, ...] = ()
    #: Edges of one trunk share lines.
    trunk: str = ""
    #: True if the visible part of another edge covers this edge. A page still shows messages on this edge.
    is_covered: bool = False


@dataclass(frozen=True)
class GroupBox:
    """The box around the queues of one consumer."""

    x: float
    y: float
    width: float
    height: float
    #: The vertical positions of the lines between queues.
    rules: tuple[float, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """A topology with the position of each part."""

    form: Form
    width: float
    height: float
    nodes: tuple[DrawnNode, ...] = ()
    edges: tuple[DrawnEdge, ...] = ()
    boxes: tuple[GroupBox, ...] = ()
    heads: tuple[Label, ...] = ()
    is_live: bool = False
    #: The left end and the width of each column, for the next layout.
    columns: tuple[tuple[float, float], ...] = field(default=(), compare=False)

    def find(self, node: str, place: str = "") -> DrawnNode | None:
        """Return the node with an id, or None if the drawing does not contain the node."""
        return next((one for one in self.nodes if one.id == node and one.place == place), None)
