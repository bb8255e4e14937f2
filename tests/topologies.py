"""A project with only a topology, whose commands run in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from runner.cli.main import main
from tests.rabbit import Vhost
from tests.running import ROOT


class Shop:
    """A folder with a topology.yaml for one vhost."""

    def __init__(self, folder: Path, vhost: Vhost) -> None:
        self.folder, self.vhost = folder, vhost
        folder.mkdir(parents=True, exist_ok=True)
        self.config = {"broker": {"url": vhost.url, "autostart": False, "management": vhost.rabbit.management}}

    def write(self, topology: dict[str, Any], services: dict[str, Any] | None = None) -> None:
        """Write both files."""
        (self.folder / "topology.yaml").write_text(yaml.safe_dump(topology, sort_keys=False))
        config = self.config | ({"services": services} if services is not None else {})
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        if "audit" in (services or {}):
            (self.folder / "plugins").mkdir(exist_ok=True)
            shutil.copy(ROOT / "plugins" / "audit.py", self.folder / "plugins")

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command. Return its exit code and output."""
        result = CliRunner().invoke(main, ["--project", str(self.folder), *arguments], catch_exceptions=False)
        print(f"--- runner {' '.join(arguments)} -> {result.exit_code}\n{result.output}")
        return result.exit_code, result.output

    def plan(self) -> Any:
        """Return the plan as JSON."""
        code, output = self.run("plan", "--json")
        found = json.loads(output)
        assert found["exit_code"] == code
        return found

    def marks(self) -> set[tuple[str, str, str]]:
        """Return mark, kind and name of each line of the plan."""
        return {(one["mark"], one["kind"], one["name"]) for one in self.plan()["changes"]}
