"""The picture of a topology: nothing overlaps, known nodes stay in their places, and the SVG names all parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from itertools import combinations, pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from runner.topology.graph import Graph, Shape
from runner.topology.picture.crossing import crossings
from runner.topology.picture.drawing import Drawing, DrawnNode, Form, Label
from runner.topology.picture.folding import fold
from runner.topology.picture.layout import WIDTH, layout
from runner.topology.picture.mark_shape import STATES
from runner.topology.picture.picture_style import page_style
from runner.topology.picture.svg_writer import UNKNOWN, svg_file, svg_part
from runner.topology.picture.text_width import fitted, short_name, width_of, wrapped
from tests.pictured import PUBLIC, generated, graph, public, shipped, shop

SVG = "{http://www.w3.org/2000/svg}"
CASES = ["shipped", "shop", *PUBLIC, *(f"{count} queues" for count in (3, 5, 8, 13, 21, 34, 60))]
#: The distances of the top and of the bottom of a text from its baseline.
ASCENT, DESCENT = 9.0, 2.5
Box = tuple[float, float, float, float]


@cache
def case(name: str) -> Graph:
    if name in PUBLIC:
        return public(name)
    if name in ("shipped", "shop"):
        return {"shipped": shipped, "shop": shop}[name]()
    return generated(int(name.split(maxsplit=1)[0]))


@cache
def drawn(name: str, form: Form | None, is_live: bool) -> Drawing:
    return layout(case(name), form, is_live=is_live)


# Only small graphs are drawn as a chain.
PICTURES = pytest.mark.parametrize(
    ("name", "form", "is_live"),
    [
        (name, form, is_live)
        for name in CASES
        for form in Form
        for is_live in (True, False)
        if form is Form.COLUMNS or name not in ("shop", "openstack", "21 queues", "34 queues", "60 queues")
    ],
)


def box_of(label: Label) -> Box:
    return (label.left, label.y - ASCENT, label.left + label.width, label.y + DESCENT)


def rectangle(thing: Any) -> Box:
    return (thing.x, thing.y, thing.x + thing.width, thing.y + thing.height)


def texts_of(node: DrawnNode) -> Iterator[tuple[str, Box]]:
    for label in (*node.labels, *(one.label for one in node.chips), *(one.label for one in node.badges)):
        if label.text or label.value:
            yield f"{node.id}: {label.text or label.value}", box_of(label)


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def is_inside(one: Box, other: Box) -> bool:
    return one[0] >= other[0] and one[1] >= other[1] and one[2] <= other[2] and one[3] <= other[3]


@PICTURES
def test_no_text_overlaps_another_text_or_crosses_a_border(name: str, form: Form, is_live: bool) -> None:
    drawing = drawn(name, form, is_live)
    texts = [(label.text, box_of(label)) for label in drawing.heads]
    texts += [one for node in drawing.nodes for one in texts_of(node)]
    assert len(texts) > len(drawing.nodes)
    assert [(one, other) for (one, a), (other, b) in combinations(texts, 2) if overlap(a, b)] == []
    for node in drawing.nodes:
        own = [text for text, _ in texts_of(node)]
        border = rectangle(node)
        crossing = [text for text, box in texts if overlap(box, border) and not is_inside(box, border)]
        assert crossing == []
        assert [text for text, box in texts if is_inside(box, border) and text not in own] == []
        parts = [rectangle(one) for one in (*node.chips, *((node.level,) if node.level else ()))]
        assert all(is_inside(part, border) for part in parts)
        inner = [
            *((one.label, rectangle(one)) for one in node.chips),
            *((one.label, rectangle(one)) for one in node.badges),
        ]
        assert all(is_inside(box_of(label), box) for label, box in inner if label.text or label.value)


@PICTURES
def test_nodes_do_not_overlap_and_everything_is_inside_the_picture(name: str, form: Form, is_live: bool) -> None:
    drawing = drawn(name, form, is_live)
    whole = (0.0, 0.0, drawing.width, drawing.height)
    for one, other in combinations(drawing.nodes, 2):
        assert not overlap(rectangle(one), rectangle(other)), (one.id, other.id)
    parts = [*drawing.nodes, *drawing.boxes, *(badge for node in drawing.nodes for badge in node.badges)]
    assert all(is_inside(rectangle(part), whole) for part in parts)
    assert all(is_inside(box_of(label), whole) for label in drawing.heads)
    assert all(is_inside((*point, *point), whole) for edge in drawing.edges for point in edge.points)


@PICTURES
def test_edges_turn_at_right_angles_and_pass_no_other_node(name: str, form: Form, is_live: bool) -> None:
    drawing = drawn(name, form, is_live)
    boxes = [(node.id, rectangle(node)) for node in drawing.nodes if not node.is_row]
    boxes += [(f"box {number}", rectangle(box)) for number, box in enumerate(drawing.boxes)]
    for edge in drawing.edges:
        # The part between a row and the border of its box is hidden.
        points = edge.points[2:] if form is Form.COLUMNS and edge.kind == "consume" else edge.points
        for (x1, y1), (x2, y2) in pairwise(points):
            assert x1 == x2 or abs(y1 - y2) < 0.5, edge.id
            part = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            assert [other for other, border in boxes if overlap(part, border)] == [], edge.id


@PICTURES
def test_an_edge_starts_and_ends_at_its_nodes(name: str, form: Form, is_live: bool) -> None:
    drawing = drawn(name, form, is_live)
    for edge in drawing.edges:
        for end, (x, y) in ((edge.source, edge.points[0]), (edge.target, edge.points[-1])):
            places = [rectangle(node) for node in drawing.nodes if node.id == end]
            # In columns, given-up messages go to the box of their queue.
            places += [rectangle(box) for box in drawing.boxes if edge.kind in ("retry", "dead")]
            assert any(box[0] - 5 <= x <= box[2] + 5 and box[1] <= y <= box[3] for box in places), (edge.id, end)


@pytest.mark.parametrize("name", CASES)
def test_a_picture_is_always_the_same(name: str) -> None:
    assert svg_file(layout(case(name))) == svg_file(layout(case(name)))


@pytest.mark.parametrize("name", ["shipped", "shop", *PUBLIC])
def test_a_picture_of_a_real_topology_needs_no_zoom(name: str) -> None:
    assert all(drawn(name, None, is_live).width <= WIDTH for is_live in (True, False))


def test_edges_cross_rarely() -> None:
    assert all(crossings(drawn("shipped", None, is_live).edges) <= 1 for is_live in (True, False))
    assert len([one for one in drawn("shop", None, True).nodes if one.shape is Shape.QUEUE]) == 60
    assert crossings(drawn("shop", None, True).edges) <= 30


def test_the_shipped_topology_is_a_chain_of_five_columns_with_straight_edges() -> None:
    drawing = drawn("shipped", None, True)
    columns: dict[float, list[str]] = {}
    for node in sorted(drawing.nodes, key=lambda one: (one.x, one.y)):
        columns.setdefault(node.x, []).append(node.id)
    assert list(columns.values()) == [
        ["service order_api", "exchange orders.topic"],
        ["queue payment.order.created", "queue notification.order.events"],
        ["service payment", "exchange payments.topic"],
        ["queue notification.payment.events", "queue audit.events"],
        ["service notification", "service audit"],
    ]
    turning = [edge.id for edge in drawing.edges if len(edge.points) > 2 and edge.kind != "bind"]
    assert turning == []
    assert all(len(edge.points) <= 4 for edge in drawing.edges)


def test_the_ids_of_edges_follow_from_the_steps_of_messages() -> None:
    edges = {edge.id: edge for edge in drawn("shipped", None, True).edges}
    assert edges["service payment>exchange payments.topic"].keys == ("payment.success", "payment.failed")
    assert edges["exchange orders.topic>queue audit.events"].keys == ("order.#",)
    assert edges["queue audit.events>service audit"].kind == "consume"
    assert edges["service audit>retry audit.events"].target == "queue audit.events"
    assert edges["service audit>dead audit.events"].kind == "dead"
    assert len(edges) == len(drawn("shipped", None, True).edges) == 19


def test_the_form_depends_on_the_number_of_nodes_and_changes_late() -> None:
    few, many = shop_of(17), shop_of(23)
    assert layout(few).form is Form.CHAIN
    assert layout(many).form is Form.COLUMNS
    assert layout(many, previous=layout(few)).form is Form.CHAIN
    assert layout(few, previous=layout(many)).form is Form.COLUMNS
    assert layout(few, Form.COLUMNS).form is Form.COLUMNS
    assert layout(shop_of(30), previous=layout(few)).form is Form.COLUMNS


def shop_of(nodes: int) -> Graph:
    """Return a graph of one exchange, a service, and queues, with a number of nodes."""
    queues = {f"queue.{number:02}": {"bind": {"events": [f"{number}.#"]}} for number in range(nodes - 2)}
    services = {"service": {"consumes": list(queues)}}
    return graph({"exchanges": {"events": {"type": "topic"}}, "queues": queues}, services)


MORE = "notification.order.cancelled", "tracking.shipment.created", "reporting.customer.merged", "payment.order.created"


@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize("is_live", [True, False])
def test_in_columns_another_queue_moves_only_what_is_below_it(name: str, is_live: bool) -> None:
    before = layout(shop(without=name), is_live=is_live)
    after = layout(shop(), is_live=is_live, previous=before)
    new = after.find(f"queue {name}")
    assert new is not None
    for node in before.nodes:
        now = after.find(node.id, node.place)
        assert now is not None
        assert (now.x, now.width) == (node.x, node.width), node.id
        is_beside = node.shape is Shape.EXCHANGE or node.place == "publisher" or node.y + node.height < new.y - 120
        assert 0 <= now.y - node.y <= (0 if is_beside else new.height), node.id
    assert after.find(f"queue {name.partition('.')[0]}.x") is None
    rows = [node.id for node in after.nodes if node.is_row and node.id != new.id]
    assert rows == [node.id for node in before.nodes if node.is_row]
    assert_readable(after)


@pytest.mark.parametrize("is_live", [True, False])
def test_in_a_chain_another_queue_moves_only_what_is_below_it_in_its_column(is_live: bool) -> None:
    topology: dict[str, Any] = {
        "exchanges": {"orders": {"type": "topic"}, "payments": {"type": "topic"}},
        "queues": {
            "payment.orders": {"bind": {"orders": ["order.created"]}, "retry": ["1s"]},
            "mail.orders": {"bind": {"orders": ["order.#"]}},
            "mail.payments": {"bind": {"payments": ["payment.#"]}},
        },
    }
    services: dict[str, Any] = {
        "shop": {"publishes": {"orders": ["order.created"]}},
        "payment": {"consumes": ["payment.orders"], "publishes": {"payments": ["payment.done"]}},
        "mail": {"consumes": ["mail.orders", "mail.payments"]},
    }
    before = layout(graph(topology, services), is_live=is_live)
    topology["queues"]["fraud.orders"] = {"bind": {"orders": ["order.#"]}}
    services["fraud"] = {"consumes": ["fraud.orders"]}
    after = layout(graph(topology, services), is_live=is_live, previous=before)
    new = after.find("queue fraud.orders")
    assert new is not None
    for node in before.nodes:
        now = after.find(node.id)
        assert now is not None
        assert (now.x, now.width, now.height) == (node.x, node.width, node.height)
        assert now.y >= node.y if now.x in (new.x, after.find("service fraud").x) else now.y == node.y  # type: ignore[union-attr]
    assert_readable(after)
    same = layout(graph(topology, services), is_live=is_live, previous=after)
    assert [rectangle(node) for node in same.nodes] == [rectangle(node) for node in after.nodes]


def assert_readable(drawing: Drawing) -> None:
    texts = [one for node in drawing.nodes for one in texts_of(node)]
    assert [(one, other) for (one, a), (other, b) in combinations(texts, 2) if overlap(a, b)] == []
    for one, other in combinations(drawing.nodes, 2):
        assert not overlap(rectangle(one), rectangle(other)), (one.id, other.id)
    boxes = [rectangle(one) for one in (*drawing.boxes, *(node for node in drawing.nodes if not node.is_row))]
    for edge in drawing.edges:
        points = edge.points[2:] if drawing.boxes and edge.kind == "consume" else edge.points
        for (x1, y1), (x2, y2) in pairwise(points):
            part = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            assert not any(overlap(part, border) for border in boxes), edge.id


DEAD = {"work": {"dead_letter": "kept", "bind": {"e": ["#"]}}, "kept": {}}
LOST = {"e": {"type": "topic", "alternate_exchange": "ae"}, "ae": {"type": "fanout"}}


@pytest.mark.parametrize(
    ("topology", "services", "nodes", "badges"),
    [
        # A dead-letter queue is a badge of its queue, with the queue behind it.
        ({"queues": DEAD}, {"s": {"consumes": ["work"]}}, ["work"], {"work": ["dead kept kept.dlq"]}),
        # It has a consumer, or gets other messages.
        ({"queues": DEAD}, {"s": {"consumes": ["work", "kept"]}}, ["work", "kept"], {"kept": ["dead kept.dlq"]}),
        (
            {"queues": {**DEAD, "kept": {"bind": {"e": ["x"]}}}},
            {"s": {"consumes": ["work"]}},
            ["work", "kept"],
            {"kept": ["dead kept.dlq"]},
        ),
        # Retry queues are a badge.
        ({"queues": {"work": {"retry": ["1s"]}}}, {}, ["work"], {"work": ["dead work.dlq", "retry"]}),
        # An alternate exchange is a badge with its queues, unless a service consumes them or publishes to it.
        (
            {"exchanges": LOST, "queues": {"lost": {"bind": {"ae": [""]}, "type": "classic"}}},
            {},
            ["e"],
            {"e": ["unrouted lost"]},
        ),
        (
            {"exchanges": LOST, "queues": {"lost": {"bind": {"ae": [""]}, "type": "classic"}}},
            {"s": {"consumes": ["lost"]}},
            ["e", "ae", "lost"],
            {"e": []},
        ),
        (
            {"exchanges": LOST, "queues": {"lost": {"bind": {"ae": [""]}, "type": "classic"}}},
            {"s": {"publishes": {"ae": ["x"]}}},
            ["e", "ae", "lost"],
            {"e": []},
        ),
        # Dead letters that go round in a cycle have no other owner.
        (
            {
                "queues": {
                    one: {
                        "type": "classic",
                        "arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": other},
                    }
                    for one, other in (("a", "b"), ("b", "a"))
                }
            },
            {},
            ["a", "b"],
            {"a": [], "b": []},
        ),
    ],
)
def test_dead_letter_queues_retry_queues_and_alternate_exchanges_become_badges(
    topology: dict[str, Any], services: dict[str, Any], nodes: list[str], badges: dict[str, list[str]]
) -> None:
    topology = {"exchanges": {"e": {"type": "topic"}}} | topology
    found = {one.name: one for one in fold(graph(topology, services)).nodes if one.shape is not Shape.SERVICE}
    assert set(nodes) <= set(found) <= {*nodes, "e"}
    for name, expected in badges.items():
        assert [" ".join((one.kind.value, *one.queues)) for one in found[name].badges] == expected


def test_keys_stand_in_the_node_to_which_their_binding_leads() -> None:
    drawing = layout(public("alternate-exchange"), is_live=True)
    chips = {(node.name, one.exchange, one.key) for node in drawing.nodes for one in node.chips}
    assert ("errors", "direct_logs", "error") in chips
    assert ("errors", "topic_logs", "*.critical") in chips
    assert ("archive", "topic_logs", "kern.#") in chips


def test_names_up_to_30_characters_are_whole_and_longer_names_keep_their_ends() -> None:
    assert short_name("a" * 30) == "a" * 30
    assert short_name("reporting.customer.consent.history.daily") == "reporting.…history.daily"
    assert len(short_name("a" * 31)) == 30
    assert short_name(f"a.b.{'c' * 40}").endswith("ccc")
    assert wrapped("orders.topic", 150) == ["orders.topic"]
    assert wrapped("notifications.of.customers", 150) == ["notifications.", "of.customers"]
    assert fitted("order.created.#", 60, 11, monospace=True) == "orde…ed.#"
    assert short_name("a\x00b") == "a\\x00b"


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize("name", ["shipped", "13 queues"])
def test_every_name_is_shown_or_is_the_title_of_its_short_form(name: str, form: Form, is_live: bool) -> None:
    for node in drawn(name, form, is_live).nodes:
        shown = [label for label in node.labels if label.style in ("name", "title")]
        text = "".join(label.text for label in shown)
        assert text == node.name or shown[0].title == node.name
        assert text == node.name or len(node.name) > 30


def test_widths_are_those_of_dejavu_sans() -> None:
    # From the font's table hmtx, with 2048 units.
    assert width_of("order", 2048) == pytest.approx(1253 + 842 + 1300 + 1260 + 842, rel=0.002)
    assert width_of("order", 1000, monospace=True) == 5 * 602
    assert width_of("order", 10, bold=True) > width_of("order", 10)
    assert width_of("日本", 10) > 20
    assert width_of("e\u0301", 10) == width_of("e", 10)


@pytest.mark.parametrize("form", Form)
def test_the_svg_of_a_page_has_a_named_target_for_each_node_and_paths_for_each_figure(form: Form) -> None:
    drawing = drawn("shipped", form, True)
    figures = {"queues/audit.events/ready": "1,204", "services/payment/state": "fatal", "queues/audit.events/dead": "3"}
    text = svg_part(drawing, figures, "Topology", WIDTH)
    root = ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    assert "style" not in {key for one in root.iter() for key in one.attrib}
    assert not list(root.iter(f"{SVG}style"))
    groups = [one for one in root.iter(f"{SVG}g") if "data-node" in one.attrib]
    assert len(groups) == len(drawing.nodes)
    for group in groups:
        drawing_part, target = list(group)
        assert drawing_part.get("aria-hidden") == "true"
        assert (target.get("tabindex"), target.get("role")) == ("0", "button")
        assert str(target.get("aria-label")).lower().startswith(str(group.get("data-node")))
    values = {str(one.get("data-value")): one.text for one in root.iter(f"{SVG}tspan") if "data-value" in one.attrib}
    assert values["queues/audit.events/ready"] == "1,204"
    assert values["queues/audit.events/unacked"] == UNKNOWN
    marks = {str(one.get("data-state")): one for one in root.iter(f"{SVG}path") if "data-state" in one.attrib}
    assert marks["services/payment/state"].get("d") == STATES["fatal"]
    assert marks["services/payment/state"].get("class") == "mark fatal"
    shown = {str(one.get("data-when")): one.get("class") for one in root.iter(f"{SVG}g") if "data-when" in one.attrib}
    assert shown["queues/audit.events/dead"] == "badge dead"
    assert shown["queues/audit.events/retry"] == "badge retry none"
    ways = {str(one.get("data-edge")): one for one in root.iter(f"{SVG}path") if "data-edge" in one.attrib}
    assert set(ways) == {edge.id for edge in drawing.edges}
    assert json.loads(str(ways["exchange orders.topic>queue audit.events"].get("data-keys"))) == ["order.#"]
    assert ways["service audit>retry audit.events"].get("class") == "edge retry none"
    assert "\n" in page_style()


def test_the_svg_file_needs_nothing_else_and_has_colors_for_light_and_dark() -> None:
    text = svg_file(drawn("shipped", None, False))
    root = ElementTree.fromstring(text)
    style = str(next(root.iter(f"{SVG}style")).text)
    assert "prefers-color-scheme: dark" in style
    defined = {word.rstrip(":") for word in style.split() if word.startswith("--")}
    used = {part.partition(")")[0] for part in style.split("var(")[1:]}
    assert used <= defined
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert not [one for one in root.iter() if "data-value" in one.attrib or "tabindex" in one.attrib]


def test_hostile_names_are_escaped_in_the_svg() -> None:
    name = 'q"><script>alert(1)</script>&\x01'
    found = graph({"exchanges": {"e": {"type": "topic"}}, "queues": {name: {"bind": {"e": ["<b>"]}}}}, {})
    for form in Form:
        text = svg_part(layout(found, form, is_live=True), {}, "Topology")
        root = ElementTree.fromstring(text)
        assert not [one for one in root.iter() if one.tag in ("script", "b")]
        assert any(str(one.get("data-node")).startswith('queue q"><script>') for one in root.iter())


def test_an_empty_topology_has_an_empty_picture() -> None:
    for form in Form:
        drawing = layout(Graph((), ()), form)
        assert drawing.nodes == ()
        ElementTree.fromstring(svg_file(drawing))
