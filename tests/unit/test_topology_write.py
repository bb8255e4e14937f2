"""From exact objects to a topology.yaml and back: no setting is lost, and a second time changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.config.cross_checks import check_references
from runner.config.document import Document
from runner.config.topology_file import Topology
from runner.config.validation import validate_document
from runner.errors import RunnerError
from runner.topology.compile import compile_topology
from runner.topology.definitions import from_definitions, to_definitions
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue
from runner.topology.write import block, write_flow, write_topology

EXAMPLES = Path(__file__).parent.parent / "definitions"


def read(text: str) -> Topology:
    """Read a topology.yaml's text as ``check`` does. It must have no errors."""
    document = Document("topology.yaml", text, {})
    topology = validate_document(Topology, document)
    check_references(topology, document)
    assert document.faults == []
    return topology


def as_sets(objects: Objects) -> dict[str, Any]:
    return {
        "exchanges": {one.name: one for one in objects.exchanges},
        "queues": {one.name: one for one in objects.queues},
        "bindings": {one.key for one in objects.bindings},
        "policies": {one.name: one for one in objects.policies},
    }


def example(name: str) -> Any:
    return json.loads((EXAMPLES / name).read_text())


@pytest.mark.parametrize(
    ("name", "vhost"), [("alternate-exchange.json", None), ("openstack.json", "/openstack"), ("render-farm.json", None)]
)
def test_a_public_system_is_the_same_after_import_render_and_import(name: str, vhost: str | None) -> None:
    objects, _ = from_definitions(example(name), vhost)
    text = write_topology(objects)
    rendered = compile_topology(read(text))
    # A quorum queue gets a limit and a dead-letter queue.
    made = {
        name
        for one in objects.queues
        if one.type == "quorum"
        for name in (f"{one.name}.dlq", f"fastcommerce.queue.{one.name}")
    }
    without = replace(
        rendered,
        queues=tuple(one for one in rendered.queues if one.name not in made),
        policies=tuple(one for one in rendered.policies if one.name not in made),
    )
    assert as_sets(without) == as_sets(objects)
    again, notes = from_definitions(json.loads(json.dumps(to_definitions(rendered, vhost or "/"))))
    assert as_sets(again) == as_sets(rendered)
    assert notes == []
    assert write_topology(again) == text


def test_an_import_looks_as_a_person_would_write_it() -> None:
    objects, notes = from_definitions(example("render-farm.json"))
    assert write_topology(objects) == (
        "# yaml-language-server: $schema=docs/schema/topology.json\n"
        "defaults: {durable: true, queue_type: classic}\n"
        "\n"
        "exchanges:\n"
        "  render: {type: topic}\n"
        "  delay: {type: topic}\n"
        "\n"
        "queues:\n"
        "  delay:\n"
        '    bind: {delay: ["#"]}\n'
        "    arguments:\n"
        "      x-message-ttl: 2000\n"
        "      x-dead-letter-exchange: render\n"
        "      x-dead-letter-routing-key: delayed.render\n"
        '  me-render: {bind: {render: ["#.me-render"]}}\n'
        '  render: {bind: {render: ["#.render"]}}\n'
    )
    assert notes == ["2 users are not imported: topology.yaml cannot contain users"]


def test_for_an_export_of_several_vhosts_one_must_be_named() -> None:
    with pytest.raises(RunnerError, match=r"several vhosts, /, /openstack; choose one with --vhost"):
        from_definitions(example("openstack.json"))
    with pytest.raises(RunnerError, match=r"unknown vhost 'x'; allowed: /, /openstack"):
        from_definitions(example("openstack.json"), "x")
    _, notes = from_definitions(example("openstack.json"), "/openstack")
    assert "1 exchanges and queues of other vhosts are not imported; choose a vhost with --vhost" in notes


@pytest.mark.parametrize("data", [[], {}, 5, "queues", None, {"queues": []}, {"users": [{"name": "guest"}]}])
def test_a_file_that_is_no_export_is_refused_with_the_reason(data: Any) -> None:
    with pytest.raises(RunnerError, match="not a RabbitMQ export"):
        from_definitions(data)


def test_the_shorthand_is_restored_from_its_expansion() -> None:
    text = """\
exchanges:
  orders: {type: topic, alternate_exchange: lost}
  lost: {type: fanout}
queues:
  work: {bind: {orders: [a, b]}, retry: [500ms, 1m], dead_letter: parked, policy: {max-length: 5}}
  lost.all: {bind: {lost: [""]}}
policies:
  cap: {pattern: "^work$$", definition: {max-length-bytes: 1000}}
"""
    objects = compile_topology(read(text))
    written = read(write_topology(objects))
    assert written.queues["work"].retry == [0.5, 60.0]
    assert written.queues["work"].dead_letter == "parked"
    assert written.queues["lost.all"].dead_letter is None
    assert written.queues["work"].policy == {"max-length": 5}
    assert written.exchanges["orders"].alternate_exchange == "lost"
    assert set(written.queues) == {"work", "lost.all"}
    assert as_sets(compile_topology(written)) == as_sets(objects)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: not text.startswith("amq.") and not {"\r", "\n"} & set(text)
)
VALUES = st.sampled_from(["", "eu", "1e3", "0o17", "null", "yes", "${HOME}", "$$"]) | st.integers(0, 9) | st.booleans()


@given(st.recursive(NAMES | VALUES | st.none(), lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner)))
def test_any_written_value_is_read_as_the_same(value: Any) -> None:
    assert Document("x.yaml", f"value: {write_flow(value)}\n", {"HOME": "/"}).data == {"value": value}


@st.composite
def some_objects(draw: st.DrawFn) -> Objects:
    exchanges = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    queues = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    kinds = ("direct", "topic", "fanout", "headers")
    settings = st.dictionaries(st.sampled_from(["x-max-length", "x-expires"]), st.integers(1, 9))
    return Objects(
        tuple(
            Exchange(name, draw(st.sampled_from(kinds)), draw(st.booleans()), draw(st.booleans())) for name in exchanges
        ),
        tuple(Queue(name, True, {"x-queue-type": "classic", **draw(settings)}, draw(st.booleans())) for name in queues),
        tuple(
            Binding(draw(st.sampled_from(exchanges)), draw(st.sampled_from(queues)), "queue", key, arguments)
            for key, arguments in draw(
                st.lists(st.tuples(NAMES, st.dictionaries(NAMES, VALUES | st.none(), max_size=2)), max_size=3)
            )
        ),
        tuple(
            Policy(name, "^a", "queues", {"max-length": draw(st.integers(1, 9))}, draw(st.integers(0, 1000)))
            for name in draw(st.lists(NAMES, max_size=2, unique=True))
            if not name.startswith("fastcommerce.")
        ),
    )


@given(some_objects())
def test_any_topology_is_the_same_after_a_write_and_a_read(objects: Objects) -> None:
    unique = Objects(
        objects.exchanges, objects.queues, tuple({one.key: one for one in objects.bindings}.values()), objects.policies
    )
    assert as_sets(compile_topology(read(write_topology(unique)))) == as_sets(unique)


@settings(max_examples=25)
@given(st.recursive(NAMES | st.text(max_size=300), lambda inner: st.dictionaries(st.text(max_size=300), inner)))
@hypothesis.example({"a" * 95: {}, "\x01" * 255: {"\x01" * 255: {"x": "y" * 200}}, '"' * 600: [], "\u2028" * 255: 1})
def test_a_mapping_with_long_keys_is_read_as_the_same(value: Any) -> None:
    text = "\n".join(["value:", *block({"first": value, "\x02" * 200: {}}, 1)])
    assert Document("x.yaml", f"{text}\n", {}).data == {"value": {"first": value, "\x02" * 200: {}}}


LONG = ["q" * 255, "q" * 252, "é" * 127, "a" + "é" * 127, "€" * 85, "x" * 200 + "y" * 55]


@pytest.mark.parametrize("name", LONG, ids=range(len(LONG)))
def test_an_imported_quorum_queue_with_a_long_name_gets_a_dead_letter_queue_with_a_short_one(name: str) -> None:
    objects = Objects(queues=(Queue(name, True, {"x-queue-type": "quorum"}), Queue("z" + name[1:-1], True, {})))
    rendered = compile_topology(read(write_topology(objects)), version=(4, 3, 6))
    dead_letter = rendered.retry_delays[name].dead_letter
    assert len(dead_letter.encode()) <= 255
    assert dead_letter.startswith(name[:60])
    assert as_sets(compile_topology(read(write_topology(rendered)), version=(4, 3, 6))) == as_sets(rendered)


@pytest.mark.parametrize(
    "arguments", [{"x-max-length": 9}, {"x-dead-letter-exchange": "e"}, {"x-delivery-limit": -1}, {"x-message-ttl": 9}]
)
@pytest.mark.parametrize("name", LONG, ids=range(len(LONG)))
def test_a_long_name_is_valid_if_no_other_name_is_derived_from_it(name: str, arguments: dict[str, Any]) -> None:
    objects = Objects(queues=(Queue(name, True, {"x-queue-type": "quorum", **arguments}),))
    rendered = compile_topology(read(write_topology(objects)))
    assert [one.name for one in rendered.queues] == [name]


@pytest.mark.parametrize(
    ("queue", "policy", "is_refused"),
    [
        ({}, {}, True),
        ({"retry": ["1s"], "policy": {"max-length": 9}}, {}, True),
        ({"arguments": {"x-delivery-limit": 9}}, {}, True),
        ({"policy": {"max-length": 9}}, {}, False),
        ({"policy": {"delivery-limit": -1}}, {}, False),
        ({"type": "classic"}, {}, False),
        ({}, {"definition": {"max-length": 9}}, False),
        ({}, {"definition": {"max-length": 9}, "apply_to": "quorum_queues"}, False),
        ({}, {"definition": {"max-length": 9}, "apply_to": "classic_queues"}, True),
        # RabbitMQ ignores it for a quorum queue.
        ({}, {"definition": {"max-length": 9, "max-priority": 3}}, True),
    ],
)
def test_a_dead_letter_queue_under_retire_is_refused_only_if_a_queue_has_it(
    queue: dict[str, Any], policy: dict[str, Any], is_refused: bool
) -> None:
    written = {"queues": {"q": queue}, "retire": {"queues": ["q.dlq"]}}
    if policy:
        written["policies"] = {"p": {"pattern": "^q", **policy}}
    document = Document("topology.yaml", yaml.safe_dump(written), {})
    topology = validate_document(Topology, document)
    check_references(topology, document)
    assert any("still needed by 'q'" in str(one) for one in document.faults) == is_refused
    assert ("q.dlq" in {one.name for one in compile_topology(topology).queues}) == is_refused
