"""The choice of the form of a drawing."""

from __future__ import annotations

from runner.topology.graph import Graph
from runner.topology.picture.chain import chain_layout, least_chain_width
from runner.topology.picture.columns import column_layout
from runner.topology.picture.drawing import Drawing, Form
from runner.topology.picture.folding import FoldedGraph, fold

#: The width of a drawing in pixels.
WIDTH = 1240.0
#: The maximum number of nodes in a chain, and the number by which a drawing may differ to keep its form.
MOST_IN_CHAIN, TOLERANCE = 20, 4


def layout(
    graph: Graph, form: Form | None = None, *, is_live: bool = False, previous: Drawing | None = None
) -> Drawing:
    """Return the drawing of a graph.

    ``form`` is None for a chain if the graph has few nodes and the chain is not too wide, and for columns otherwise. A
    drawing with ``is_live`` has room for live figures. Nodes of the ``previous`` drawing keep their places, except that
    they move down if a new node needs room in their box or column.
    """
    folded = fold(graph)
    if previous is not None and previous.is_live != is_live:
        previous = None
    chosen = form if form is not None else _form(folded, previous, is_live)
    before = previous if previous is not None and previous.form is chosen else None
    if chosen is Form.COLUMNS:
        return column_layout(folded, WIDTH, is_live=is_live, previous=before)
    found = chain_layout(folded, WIDTH, is_live=is_live, previous=before)
    if found.width > WIDTH and before is not None:
        found = chain_layout(folded, WIDTH, is_live=is_live)
    if found.width > WIDTH and form is None:
        return column_layout(folded, WIDTH, is_live=is_live)
    return found


def _form(graph: FoldedGraph, previous: Drawing | None, is_live: bool) -> Form:
    most = MOST_IN_CHAIN
    if previous is not None:
        most += TOLERANCE if previous.form is Form.CHAIN else -TOLERANCE
    is_chain = len(graph.nodes) <= most and least_chain_width(graph, is_live=is_live) <= WIDTH
    return Form.CHAIN if is_chain else Form.COLUMNS
