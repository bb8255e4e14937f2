"""docs/tour.md follows one order through the code. Each of its links leads to a file and to a name in it."""

from __future__ import annotations

import ast
import re

from tests.running import ROOT

PAGE = (ROOT / "docs" / "tour.md").read_text("utf-8")
#: ``[`pipeline.py:Pipeline.submit`](../runner/worker/pipeline.py)``.
LINK = re.compile(r"\[`([\w/.]+):([\w.]+)`\]\(\.\./([\w/.]+)\)")
#: A class or function with its nested names.
Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def names_of(scope: Scope, prefix: str = "") -> set[str]:
    """Return the names that a module defines, including those in classes as ``Class.name``."""
    found: set[str] = set()
    for node in scope.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found |= {prefix + node.name}
            if isinstance(node, ast.ClassDef):
                found |= names_of(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {prefix + one.id for one in targets if isinstance(one, ast.Name)}
    return found


def test_each_link_leads_to_a_name_in_its_file() -> None:
    links = LINK.findall(PAGE)
    assert len(links) >= 12
    assert PAGE.count("](../") == len(links), "each link to the code names a file and a name"
    for shown, name, path in links:
        assert path.endswith(shown)
        assert name in names_of(ast.parse((ROOT / path).read_text("utf-8"))), f"{path}: {name}"


def test_the_tour_opens_at_most_twelve_files() -> None:
    assert len({path for _, _, path in LINK.findall(PAGE)}) <= 12


def test_each_place_that_the_tour_names_exists() -> None:
    named = re.findall(r"`((?:runner|plugins)/[\w/.]+)`", PAGE)
    assert named
    assert [one for one in named if not (ROOT / one).exists()] == []
