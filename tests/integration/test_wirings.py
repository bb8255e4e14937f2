"""Wiring mistakes in a working project: ``check`` reports each with file, line and remedy."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from runner.cli.main import main

ROOT = Path(__file__).parent.parent.parent
WIRINGS: list[dict[str, Any]] = yaml.safe_load((ROOT / "tests" / "wirings.yaml").read_text())


def check(folder: Path) -> tuple[int, list[str]]:
    result = CliRunner().invoke(main, ["--project", str(folder), "check"], catch_exceptions=False)
    return result.exit_code, result.output.splitlines()


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    for name in ("topology.yaml", "config.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "plugins", tmp_path / "plugins")
    return tmp_path


def test_the_shipped_project_has_no_finding(shipped: Path) -> None:
    code, lines = check(shipped)
    assert code == 0
    assert [line for line in lines if line.startswith(("topology.yaml:", "config.yaml:"))] == []


@pytest.mark.parametrize("wiring", WIRINGS, ids=[one["name"] for one in WIRINGS])
def test_a_wiring_mistake_is_reported_with_its_line_and_a_remedy(wiring: dict[str, Any], shipped: Path) -> None:
    for file, texts in wiring["replace"].items():
        content = (shipped / file).read_text()
        for old, new in texts.items():
            assert content.count(old) >= 1, old
            content = content.replace(old, new, 1)
        (shipped / file).write_text(content)
    for name, source in wiring.get("plugins", {}).items():
        (shipped / "plugins" / name).write_text(source)
    code, lines = check(shipped)
    if "fails" in wiring:
        assert code == 78
        assert wiring["fails"] in lines
    else:
        assert code == 0
        assert wiring["finds"] in lines
