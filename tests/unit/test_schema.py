"""The JSON Schemas of both files, as editors use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from runner.cli.main import main
from runner.config.document import Document
from runner.config.json_schema import MODELS, json_schema

ROOT = Path(__file__).parent.parent.parent
BROKEN = Path(__file__).parent.parent / "broken"


def problems(name: str, text: str) -> list[str]:
    """Return the errors that an editor underlines. It reads the file as it is written, with its variables."""
    data = Document(f"{name}.yaml", text.replace("$", "$$"), {}).data
    return [error.message for error in Draft202012Validator(json_schema(name)).iter_errors(data)]


def of_broken(folder: str, name: str) -> list[str]:
    (path,) = BROKEN.glob(f"*-{folder}/{name}.yaml")
    return problems(name, path.read_text())


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_shipped_schema_is_the_printed_one(name: str) -> None:
    printed = CliRunner().invoke(main, ["schema", name])
    assert printed.exit_code == 0
    assert (ROOT / "docs" / "schema" / f"{name}.json").read_text() == printed.output


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_schema_is_valid(name: str) -> None:
    schema = json_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["title"] == f"FastCommerce {name}.yaml"
    assert schema == json.loads(json.dumps(schema))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_key_has_a_description(name: str) -> None:
    schema = json_schema(name)
    for model in (schema, *schema["$defs"].values()):
        for key, about in model.get("properties", {}).items():
            part = schema["$defs"].get(about.get("$ref", "").rpartition("/")[2], {})
            assert about.get("description") or part.get("description"), key


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_shipped_files_are_valid_and_name_their_schema(name: str) -> None:
    text = (ROOT / f"{name}.yaml").read_text()
    assert problems(name, text) == []
    assert text.splitlines()[0] == f"# yaml-language-server: $schema=docs/schema/{name}.json"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("unknown-key", "topology"),
        ("unknown-key", "config"),
        ("unknown-key-at-the-top", "topology"),
        ("wrong-word", "topology"),
        ("wrong-word", "config"),
        ("text-for-a-number", "config"),
        ("number-for-text", "topology"),
        ("list-for-a-mapping", "topology"),
        ("one-value-for-a-list", "config"),
        ("missing-key", "topology"),
        ("out-of-range", "config"),
        ("bad-duration", "topology"),
        ("no-broker-address", "config"),
        ("argument-value", "topology"),
        ("empty-dead-letter", "topology"),
    ],
)
def test_a_broken_file_is_not_valid(folder: str, name: str) -> None:
    assert of_broken(folder, name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config", 'services: {a: {instances: "${N:-2}", prefetch: "${P}"}}'),
        ("config", 'broker: {autostart: "${AUTOSTART:-true}", url: ["amqp://a/", "${B}"]}'),
        ("config", "services: {a: {options: {anything: {goes: [1, null]}}}}"),
        ("topology", 'queues: {a: {durable: "${D}", retry: ["${DELAY:-5s}", 1.5s], type: "${T}"}}'),
        (
            "topology",
            "queues: {a: {arguments: {x-max-length: 5, x-max-priority: 3}, policy: {overflow: drop-head}}}",
        ),
        ("topology", "bindings: [{source: a, destination: b, destination_type: exchange}]"),
    ],
)
def test_the_schema_accepts_all_files_that_the_program_accepts(name: str, text: str) -> None:
    assert problems(name, text) == []


def test_an_unknown_file_is_a_usage_error() -> None:
    result: Any = CliRunner().invoke(main, ["schema", "broker"])
    assert result.exit_code == 2
