"""Names: each module and each class of the product stands for one thing."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from runner.cli.main import LAZY
from tests.running import ROOT

#: Names that belong to a convention and may occur in several places: Python's, and the plugin API's model of options.
# The plugin `dashboard` only serves the package of the same name.
SHARED_MODULES = {"__init__", "__main__", "dashboard"}
SHARED_CLASSES = {"Options"}
FILES = sorted(path for room in ("runner", "plugins") for path in (ROOT / room).rglob("*.py"))


def names_of(path: Path) -> list[str]:
    """Return the name of a module, and of its package if it is the package's own file."""
    return [path.parent.name if path.stem == "__init__" else path.stem]


def classes_of(path: Path) -> list[str]:
    """Return the classes that a module defines at its top level."""
    return [node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize(("kind", "shared"), [(names_of, SHARED_MODULES), (classes_of, SHARED_CLASSES)])
def test_no_two_modules_and_no_two_classes_share_a_name(kind, shared) -> None:
    places = defaultdict(list)
    for path in FILES:
        for name in kind(path):
            places[name].append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in shared} == {}


def test_each_command_is_in_a_file_with_its_name() -> None:
    modules = {place.partition(":")[0] for place in LAZY.values()}
    assert [name for name in sorted(modules) if not re.fullmatch(r".+_commands?", name)] == []
    files = {str(path.relative_to(ROOT).with_suffix("")).replace("/", ".") for path in FILES}
    named = {name for name in files if re.fullmatch(r".+_commands?", name)}
    # The other commands of the groups ``dlq`` and ``learn``.
    others = {"runner.deadletters.discard_command", "runner.deadletters.replay_command"}
    assert named - modules == others | {"runner.learn.dev_command", "runner.learn.teacher_commands"}


def test_all_files_of_the_product_are_counted() -> None:
    assert len(FILES) > 200
    assert "runner" in {name for path in FILES for name in names_of(path)}
    assert "Supervisor" in {name for path in FILES for name in classes_of(path)}
