"""Exports of RabbitMQ that a person has edited, or that leave values out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runner.cli.main import main
from runner.config.cross_checks import check_references
from runner.config.document import Document
from runner.config.topology_file import Topology
from runner.config.validation import validate_document
from runner.errors import RunnerError
from runner.topology.definitions import from_definitions
from runner.topology.lint_rules import lint
from runner.topology.write import write_topology

QUEUE = {"name": "q"}
EXCHANGE = {"name": "e", "type": "topic"}
POLICY = {"name": "p", "pattern": "", "definition": {}}
BINDING = {"source": "e", "destination": "q"}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"queues": 5}, "queues: not a list, 5; allowed: a list of objects"),
    ({"queues": {"name": "q"}}, "queues: not a list, a mapping; allowed: a list of objects"),
    ({"queues": [None]}, "queues[0]: not an object, nothing; allowed: an object"),
    ({"queues": [QUEUE, 7]}, "queues[1]: not an object, 7; allowed: an object"),
    ({"queues": [{"nam": "a"}]}, "queues[0]: missing 'name'; allowed: text"),
    ({"queues": [{"name": 5}]}, "queues[0].name: not text, 5; allowed: text"),
    ({"queues": [{"name": "\ud800"}]}, r"queues[0].name: not Unicode text, '\ud800'; allowed: whole characters"),
    ({"queues": [{**QUEUE, "durable": "yes"}]}, "queues[0].durable: not true or false, 'yes'; allowed: true, false"),
    ({"queues": [{**QUEUE, "auto_delete": 1}]}, "queues[0].auto_delete: not true or false, 1; allowed: true, false"),
    ({"queues": [{**QUEUE, "arguments": [1]}]}, "queues[0].arguments: not an object, a list; allowed: an object"),
    ({"queues": [{**QUEUE, "arguments": {"\udc00": 1}}]}, "queues[0].arguments: not Unicode text"),
    ({"queues": [{**QUEUE, "arguments": {"a": ["\udc00"]}}]}, "queues[0].arguments.a: not Unicode text"),
    ({"queues": [{**QUEUE, "vhost": 3}]}, "queues[0].vhost: not text, 3; allowed: text"),
    ({"queues": [{**QUEUE, "type": ["quorum"]}]}, "queues[0].type: not text, a list; allowed: text"),
    ({"queues": [QUEUE], "users": 5}, "users: not a list, 5; allowed: a list of objects"),
    ({"queues": [QUEUE], "permissions": "x"}, "permissions: not a list, 'x'; allowed: a list of objects"),
    ({"queues": [QUEUE], "vhosts": True}, "vhosts: not a list, true; allowed: a list of objects"),
    ({"queues": [QUEUE], "vhosts": [{"name": "/", "metadata": 7}]}, "vhosts[0].metadata: not an object, 7"),
    (
        {"queues": [QUEUE], "vhosts": [{"name": "/", "metadata": {"default_queue_type": 7}}]},
        "vhosts[0].metadata.default_queue_type: not text, 7; allowed: text",
    ),
    ({"exchanges": [{"name": "e"}]}, "exchanges[0]: missing 'type'; allowed: text"),
    ({"exchanges": [{**EXCHANGE, "internal": None}]}, "exchanges[0].internal: not true or false, nothing"),
    ({"bindings": [{"source": "e"}]}, "bindings[0]: missing 'destination'; allowed: text"),
    ({"bindings": [{**BINDING, "routing_key": 1}]}, "bindings[0].routing_key: not text, 1; allowed: text"),
    ({"policies": [{**POLICY, "definition": None}]}, "policies[0].definition: not an object, nothing"),
    ({"policies": [{**POLICY, "priority": True}]}, "policies[0].priority: not a whole number, true"),
    ({"policies": [{**POLICY, "pattern": 1.5}]}, "policies[0].pattern: not text, 1.5; allowed: text"),
]


@pytest.mark.parametrize(("data", "words"), WRONG, ids=range(len(WRONG)))
def test_a_field_of_a_wrong_type_is_an_error_with_its_place(data: dict[str, Any], words: str) -> None:
    with pytest.raises(RunnerError) as caught:
        from_definitions(data)
    assert str(caught.value).startswith(words)
    assert len(str(caught.value).splitlines()) == 1


UNREADABLE = {
    "nothing": b"",
    "no JSON": b"queues: []",
    "no UTF-8": b'{"queues": [{"name": "\xff"}]}',
    "UTF-16": '{"queues": []}'.encode("utf-16"),
    "half a pair": rb'{"queues": [{"name": "\ud800"}]}',
    "deep lists": b"[" * 100_000,
    "deep arguments": b'{"queues": [{"name": "q", "arguments": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}]}",
    "a long number": b'{"queues": [{"name": "q", "arguments": {"a": ' + b"9" * 5000 + b"}}]}",
    "a large number": b'{"queues": [{"name": "q", "arguments": {"a": 1e999}}]}',
    "no number": b'{"queues": [{"name": "q", "arguments": {"a": NaN}}]}',
    "a key twice": b'{"queues": [{"name": "q", "name": "r"}]}',
    "a wrong type": b'{"queues": [{"name": "q"}], "users": 5}',
}


@pytest.mark.parametrize("raw", UNREADABLE.values(), ids=UNREADABLE)
def test_an_export_that_cannot_be_read_is_one_line_and_exit_code_1(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "d.json").write_bytes(raw)
    done = CliRunner().invoke(main, ["--project", str(tmp_path), "import", str(tmp_path / "d.json")])
    assert done.exit_code == 1
    (line,) = done.output.splitlines()
    assert line.startswith(f"{tmp_path}/d.json: ")
    assert "allowed: " in line or line.endswith("; export it again")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/dev/full", "larger than 67108864 bytes; allowed: a RabbitMQ export of up to that size"),
        ("/", "cannot be read, is a directory; allowed: a readable file"),
        ("nowhere", "cannot be read, no such file or directory; allowed: a readable file"),
        ("/dev/null", "not JSON, Expecting value: line 1 column 1 (char 0); export it again"),
        ("/proc/self/mem", "cannot be read, input/output error; allowed: a readable file"),
    ],
)
def test_a_path_without_an_export_is_one_line_and_exit_code_1(tmp_path: Path, source: str, words: str) -> None:
    done = CliRunner().invoke(main, ["--project", str(tmp_path), "import", source])
    assert (done.exit_code, done.output) == (1, f"{source}: {words}\n")


def test_standard_input_is_read(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--project", str(tmp_path), "import", "-"], input=json.dumps({"queues": [QUEUE]}))
    assert done.exit_code == 0
    assert "  q: {}\n" in done.output


def named(data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    objects, notes = from_definitions(data)
    things: list[Any] = [*objects.exchanges, *objects.queues, *objects.policies]
    return {one.name: one for one in things}, notes


def test_of_several_queues_or_exchanges_with_one_name_the_first_counts_as_in_rabbitmq() -> None:
    limits = [{**QUEUE, "arguments": {"x-max-length": limit}} for limit in (1, 2, 3)]
    types = [{"name": "e", "type": kind} for kind in ("topic", "fanout")]
    found, notes = named({"queues": [*limits, {"name": "other"}], "exchanges": types})
    assert found["q"].arguments["x-max-length"] == 1
    assert found["e"].type == "topic"
    assert notes == [
        "exchange 'e' occurs 2 times; the first entry is used, because RabbitMQ's import usually uses that entry",
        "queue 'q' occurs 3 times; the first entry is used, because RabbitMQ's import usually uses that entry",
    ]


def test_of_several_policies_with_one_name_the_last_counts_as_in_rabbitmq() -> None:
    found, notes = named({"policies": [{**POLICY, "priority": priority} for priority in (1, 2)]})
    assert found["p"].priority == 2
    assert notes == [
        "policy 'p' occurs 2 times; the last entry is used, because RabbitMQ's import usually uses that entry"
    ]


def test_equal_names_in_two_vhosts_are_two_queues() -> None:
    queues = [{**QUEUE, "vhost": vhost, "durable": vhost == "a"} for vhost in ("a", "b")]
    objects, notes = from_definitions({"queues": queues}, "b")
    assert [one.durable for one in objects.queues] == [False]
    assert notes == ["1 exchanges and queues of other vhosts are not imported; choose a vhost with --vhost"]


DEFAULT = "queue 'q' gets the type {}, the vhost's default_queue_type, as in RabbitMQ 4.0 and later"


@pytest.mark.parametrize(
    ("vhost", "queue", "kind", "note"),
    [
        ({"metadata": {"default_queue_type": "quorum"}}, {}, "quorum", DEFAULT.format("quorum")),
        ({"metadata": {"default_queue_type": "stream"}}, {}, "stream", DEFAULT.format("stream")),
        ({"metadata": {"default_queue_type": "quorum"}}, {"type": "classic"}, "quorum", DEFAULT.format("quorum")),
        ({"metadata": {"default_queue_type": "quorum"}}, {"durable": False}, "classic", None),
        ({"metadata": {"default_queue_type": "quorum"}}, {"auto_delete": True}, "classic", None),
        ({"metadata": {"default_queue_type": "quorum"}}, {"arguments": {"x-queue-type": "classic"}}, "classic", None),
        ({"metadata": {"default_queue_type": "undefined"}}, {}, "classic", None),
        ({"metadata": {"default_queue_type": None}}, {}, "classic", None),
        ({"metadata": {}}, {"arguments": {"x-queue-type": "undefined"}}, "classic", None),
        ({"metadata": {}}, {"arguments": {"x-queue-type": "stream"}, "type": "quorum"}, "stream", None),
        ({"default_queue_type": "quorum"}, {}, "classic", None),
        (
            {},
            {"type": "quorum"},
            "classic",
            "queue 'q' gets the type classic, not quorum: RabbitMQ's import reads only the arguments",
        ),
    ],
)
def test_a_queue_without_a_type_gets_the_default_type_of_rabbitmq(
    vhost: dict[str, Any], queue: dict[str, Any], kind: str, note: str | None
) -> None:
    found, notes = named({"vhosts": [{"name": "/", **vhost}], "queues": [{**QUEUE, **queue}]})
    assert found["q"].type == kind
    assert notes == ([] if note is None else [note])


UNKNOWN: list[tuple[dict[str, Any], set[tuple[str, str]], list[str]]] = [
    ({"queues": [{**QUEUE, "arguments": {"x-ha-policy": "all"}}]}, {("unknown-argument", "x-ha-policy")}, []),
    (
        {"queues": [{**QUEUE, "arguments": {"x-message-deduplication": True, "x-cache-size": 100}}]},
        {("unknown-argument", "x-message-deduplication"), ("unknown-argument", "x-cache-size")},
        [],
    ),
    ({"queues": [{**QUEUE, "arguments": {"x-max-lenght": 5}}]}, set(), ["x-max-lenght"]),
    ({"queues": [{**QUEUE, "arguments": {"note": {"by": ["me", {"at": 1.5}]}}}]}, {("unknown-argument", "note")}, []),
    ({"exchanges": [{**EXCHANGE, "type": "x-rtopic"}]}, {("unknown-exchange-type", "x-rtopic")}, []),
    (
        {"exchanges": [{**EXCHANGE, "type": "x-jms-topic", "arguments": {"policy": "durable"}}]},
        {("unknown-exchange-type", "x-jms-topic")},
        [],
    ),
    ({"exchanges": [{**EXCHANGE, "arguments": {"alternate-exhange": "x"}}]}, set(), ["alternate-exhange"]),
    ({"exchanges": [{**EXCHANGE, "arguments": {"x-event": 1}}]}, {("unknown-argument", "x-event")}, []),
    ({"policies": [{**POLICY, "definition": {"shards-per-node": 3}}]}, set(), ["shards-per-node"]),
]


@pytest.mark.parametrize(("data", "findings", "ignored"), UNKNOWN, ids=range(len(UNKNOWN)))
def test_values_that_only_a_plugin_knows_are_kept_with_a_finding(
    data: dict[str, Any], findings: set[tuple[str, str]], ignored: list[str]
) -> None:
    objects, _ = from_definitions(data)
    document = Document("topology.yaml", write_topology(objects), {})
    topology = validate_document(Topology, document)
    check_references(topology, document)
    assert document.faults == []
    codes = ("unknown-argument", "unknown-exchange-type", "unused-ignore")
    assert {(one.code, one.name) for one in lint(topology, {}) if one.code in codes} == findings
    assert topology.lint.ignore.get("unknown-argument", []) == ignored
