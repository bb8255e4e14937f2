"""docs/configuration.md: every key of config.yaml, with examples that the program accepts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from runner.cli.main import main
from runner.config.json_schema import json_schema
from runner.config.manual import EXAMPLE_SERVICE, Section, sections
from runner.config.project import load_project
from tests.running import ROOT, Project

PAGE = ROOT / "docs" / "configuration.md"
SECTIONS = list(sections())
#: The queues and services to which the examples refer.
TOPOLOGY = """
exchanges: {orders.topic: {type: topic}, payments.topic: {type: topic}}
queues: {payment.order.created: {bind: {orders.topic: ["order.#"]}}, audit.events: {}}
"""
CONFIG: dict[str, Any] = {
    "services": {
        "order_api": {},
        "payment": {"consumes": ["payment.order.created"]},
        "audit": {"consumes": ["audit.events"]},
    }
}


def merged(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: merged(one.get(key), other[key]) if key in other else one[key] for key in {**one, **other}}
    return other


def blocks(title: str | None = None) -> list[str]:
    chapters = PAGE.read_text("utf-8").split("\n## ")[1:]
    chosen = [one for one in chapters if title is None or one.startswith(f"{title}\n")]
    return [block for one in chosen for block in re.findall(r"```yaml\n(.*?)```", one, re.S)]


def test_the_shipped_page_is_the_printed_one() -> None:
    printed = CliRunner().invoke(main, ["--project", str(ROOT), "schema", "config", "--format", "markdown"])
    assert printed.exit_code == 0
    assert PAGE.read_text("utf-8") == printed.output, "run make schema"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda one: one.title)
def test_every_key_has_a_meaning_and_a_tested_example_that_is_not_its_default(section: Section, tmp_path: Path) -> None:
    (tmp_path / "topology.yaml").write_text(TOPOLOGY)
    for name, field in section.fields().items():
        assert (field.description or "").endswith("."), name
        if section.inside(name) is not None:
            continue  # the keys of the mapping are examples of it
        # The example of this key, with the keys that it needs beside it.
        needed = {key for key, one in section.fields().items() if one.is_required()}
        example = {key: value for key, value in section.examples().items() if key in {name, *needed}}
        assert name in example, f"{section.title}.{name}: add examples=[…] to its Field"
        inside: Any = example
        for part in reversed(section.path):
            inside = {EXAMPLE_SERVICE if part == "NAME" else part: inside}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(merged(CONFIG, inside)))
        found: Any = load_project(tmp_path, {}).config
        for part in section.path:
            found = found[EXAMPLE_SERVICE] if part == "NAME" else getattr(found, part)
        assert name in found.model_fields_set
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert example[name] != default


@pytest.mark.parametrize("section", SECTIONS, ids=lambda one: one.title)
def test_the_block_of_a_chapter_is_accepted_as_printed_and_sets_all_its_keys(section: Section, tmp_path: Path) -> None:
    found = blocks(section.title)
    assert found == ([section.example()] if section.examples() else [])
    for block in found:
        (tmp_path / "topology.yaml").write_text(TOPOLOGY)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(merged(CONFIG, yaml.safe_load(block))))
        inside: Any = load_project(tmp_path, {}).config
        for part in section.path:
            inside = inside[EXAMPLE_SERVICE] if part == "NAME" else getattr(inside, part)
        assert {name for name in section.fields() if section.inside(name) is None} <= inside.model_fields_set


def test_check_accepts_all_examples_together(project: Project) -> None:
    everything: Any = CONFIG
    for block in blocks():
        everything = merged(everything, yaml.safe_load(block))
    del everything["fault_injection"]  # it needs a local broker; another test has it
    everything["services"]["order_api"] = {"publishes": {"orders.topic": ["order.created"]}}
    (project.folder / "topology.yaml").write_text(TOPOLOGY)
    project.set_config(everything)
    code, output = project.call("check")
    assert code == 0, output
    assert "4 x payment; consumes payment.order.created; publishes payment.success" in output


def test_every_key_of_the_schema_is_on_the_page_with_its_examples() -> None:
    schema = json_schema("config")
    text = PAGE.read_text("utf-8")
    for part in (schema, *schema["$defs"].values()):
        for name in part["properties"]:
            assert f"\n| `{name}` | " in text
    service = schema["$defs"]["ServiceSettings"]["properties"]
    assert '"examples": [20]' in json.dumps(service["prefetch"])


def test_every_link_leads_to_a_chapter_or_a_page() -> None:
    text = PAGE.read_text("utf-8")
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9_-]", "", title.lower().replace(" ", "-")) for title in titles}
    links = set(re.findall(r"\(#([^)]*)\)", text))
    assert links
    assert links <= anchors
    for page in re.findall(r"\(([a-z-]+\.md)\)", text):
        assert (PAGE.parent / page).exists()


def test_only_the_page_of_config_yaml_is_generated() -> None:
    result = CliRunner().invoke(main, ["schema", "topology", "--format", "markdown"])
    assert result.exit_code == 2
    assert "not available for topology.yaml; allowed: config" in result.output
