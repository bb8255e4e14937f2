"""The proofs that docs/guarantees.md names exist."""

from __future__ import annotations

import ast
import re

from tests.running import ROOT

TEXT = (ROOT / "docs" / "guarantees.md").read_text()


def test_each_promise_names_tests_that_exist() -> None:
    promises = re.split(r"^### ", TEXT.partition("## How it is proved")[0], flags=re.MULTILINE)[1:]
    assert [one[0] for one in promises] == ["1", "2", "3", "4", "5", "6"]
    for promise in promises:
        named = re.findall(r"`(tests/[a-z_/]+\.py)::(test_\w+)`", promise)
        assert named, promise
        assert "Remaining cases:" in promise
        for file, name in named:
            tree = ast.parse((ROOT / file).read_text())
            assert name in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}, f"{file}::{name}"


def test_each_named_command_is_a_target_of_the_makefile() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)`", TEXT)) <= set(targets)
