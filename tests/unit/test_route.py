"""``route``: its answers for delayed messages, typed headers, and publishes that the broker refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from runner.cli.main import main

TOPOLOGY: dict[str, Any] = {
    "exchanges": {
        "direct.later": {"type": "x-delayed-message", "arguments": {"x-delayed-type": "direct"}},
        "topic.later": {"type": "x-delayed-message", "arguments": {"x-delayed-type": "topic"}},
        "fanout.later": {"type": "x-delayed-message", "arguments": {"x-delayed-type": "fanout"}},
        "headers.later": {"type": "x-delayed-message", "arguments": {"x-delayed-type": "headers"}},
        "random.later": {"type": "x-delayed-message", "arguments": {"x-delayed-type": "x-random"}},
        "prices": {"type": "headers"},
        "inside": {"type": "topic", "internal": True},
        "front": {"type": "topic", "alternate_exchange": "inside"},
    },
    "queues": {"q": {"bind": {name: ["b.#"] for name in ("topic.later", "fanout.later", "random.later", "inside")}}},
    "bindings": [
        {"source": "direct.later", "destination": "q", "routing_key": "b"},
        {"source": "headers.later", "destination": "q", "arguments": {"x-match": "any", "a": 1}},
        *(
            {"source": "prices", "destination": "q", "arguments": {"x-match": "all", **arguments}}
            for arguments in (
                {"price": 1.5}, {"price": -2.0}, {"price": 3}, {"price": "4"}, {"price": True}, {"price": ""},
                {"price": 1e10}, {"any": None, "price": "text"},
            )
        ),
    ],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "topology.yaml").write_text(yaml.safe_dump(TOPOLOGY))
    (tmp_path / "config.yaml").write_text("services: {reader: {consumes: [q]}}\n")
    return tmp_path


def route(folder: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["--project", str(folder), "route", *arguments], catch_exceptions=False)
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("exchange", "key", "headers", "is_routed"),
    [
        ("direct.later", "b", (), True),
        ("direct.later", "c", (), False),
        ("topic.later", "b.c", (), True),
        ("topic.later", "c", (), False),
        ("fanout.later", "whatever", (), True),
        ("headers.later", "", ("--header", "a=1"), True),
        ("headers.later", "b", ("--header", "a=2"), False),
        ("random.later", "b", (), True),
    ],
)
def test_delayed_messages_are_routed_by_the_type_behind_the_delay(
    folder: Path, exchange: str, key: str, headers: tuple[str, ...], is_routed: bool
) -> None:
    code, output = route(folder, exchange, key, *headers)
    behind = str(TOPOLOGY["exchanges"][exchange]["arguments"]["x-delayed-type"])
    assert f"  {exchange} (x-delayed-message, then {behind})\n" in output
    assert code == (0 if is_routed else 1)
    assert ("queue q: consumed by reader" in output) == is_routed
    assert ("perhaps, x-random decides" in output) == (behind == "x-random")


@pytest.mark.parametrize(
    ("header", "is_routed"),
    [
        ("price=1.5", True), ("price=1.50", True), ("price=15e-1", True), ('price="1.5"', False), ("price=1,5", False),
        ("price=-2.0", True), ("price=-2", False), ("price=3", True), ("price=3.0", False), ("price=0x3", True),
        ("price=4", False), ('price="4"', True), ("price=true", True), ("price=True", True), ('price="true"', False),
        ("price=1", False), ("price=", True), ('price=""', True), ("price=1e10", True),
        ("price=10000000000", False), ("price=1_5", False), ("price=text", False), ("price==", False),
    ],
)  # fmt: skip
def test_a_header_has_its_type_of_the_file(folder: Path, header: str, is_routed: bool) -> None:
    assert route(folder, "prices", "", "--header", header)[0] == (0 if is_routed else 1)


@pytest.mark.parametrize("key", ["b", "", "b.c.d", "nothing"])
def test_a_publish_to_an_internal_exchange_is_refused_as_by_the_broker(folder: Path, key: str) -> None:
    code, output = route(folder, "inside", key)
    assert (code, output) == (
        1,
        f"published to inside with key {key!r}\nthe broker refuses it: exchange 'inside' is internal and accepts only"
        " messages from other exchanges (403 ACCESS_REFUSED)\n",
    )
    code, output = route(folder, "inside", key, "--json")
    assert (code, json.loads(output)["queues"]) == (1, [])
    assert "is internal" in json.loads(output)["refused"]


def test_an_internal_exchange_gets_messages_from_another_exchange(folder: Path) -> None:
    assert route(folder, "front", "b")[0] == 0
    code, output = route(folder, "front", "b", "--json")
    found = json.loads(output)
    assert (code, found["refused"], [hop["exchange"] for hop in found["hops"]]) == (0, None, ["front", "inside"])


@pytest.mark.parametrize(("exchange", "key"), [("", "é" * 128), ("front", "x" * 256), ("prices", "b." * 200)])
def test_a_key_that_is_too_long_for_amqp_is_refused(folder: Path, exchange: str, key: str) -> None:
    code, output = route(folder, exchange, key)
    assert code == 1
    assert f"the broker refuses it: the routing key has {len(key.encode())} bytes; allowed: up to 255" in output
