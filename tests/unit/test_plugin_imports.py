"""Plugins import only the public API: the shipped ones, and by the same function those of any project."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import runner

ROOT = Path(__file__).parents[2]
#: The modules of ``runner`` from which plugins may import names, besides ``runner`` itself.
MODULES = {"runner.dashboard", "runner.http", "runner.testing"}


def private_imports(source: str) -> Iterator[str]:
    """Return the names of ``runner`` that a plugin imports although they are not public."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.split(".")[0] == "runner")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "runner":
            if node.module == "runner":
                yield from (f"runner.{one.name}" for one in node.names if one.name not in runner.__all__)
            elif node.module not in MODULES:
                yield str(node.module)


def plugin_files() -> list[Path]:
    return sorted((ROOT / "plugins").rglob("*.py"))


@pytest.mark.parametrize("path", plugin_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_plugin_imports_only_the_public_api(path: Path) -> None:
    assert list(private_imports(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from runner import Event, Reject, hookimpl", []),
        ("import json\nfrom .mail import Email\nfrom runners import x", []),
        ("from runner.http import Server", []),
        ("from runner.messages import Event", ["runner.messages"]),
        ("import runner.store.process_store as s", ["runner.store.process_store"]),
        ("import runner", ["runner"]),
        ("from runner import store", ["runner.store"]),
        ("if TYPE_CHECKING:\n    from runner.store.process_store import Store", ["runner.store.process_store"]),
        ("def f():\n    from runner.escape import one_line", ["runner.escape"]),
    ],
)
def test_every_other_import_is_found(source: str, found: list[str]) -> None:
    assert list(private_imports(source)) == found


@pytest.mark.parametrize("name", sorted(runner.__all__))
def test_every_public_name_exists(name: str) -> None:
    assert getattr(runner, name) is not None


def test_a_private_name_is_not_in_the_package() -> None:
    with pytest.raises(AttributeError, match="module 'runner' has no attribute 'Store'"):
        runner.Store  # noqa: B018 - the access is what is tested
