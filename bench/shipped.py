"""The shipped config.yaml, topology.yaml and plugins as a project on a vhost of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.ground import Ground
from tests.rabbit import Vhost
from tests.running import ROOT


def shipped(
    ground: Ground,
    vhost: Vhost,
    port: int,
    services: Sequence[str] = ("order_api", "payment", "notification"),
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    plugins: Mapping[str, str] | None = None,
) -> Path:
    """Write a project with some of the shipped services and the order API on ``port``, and return its folder.

    ``changes`` are merged into the services' entries (``options`` key by key). ``plugins`` are sources to add.
    """
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    topology = yaml.safe_load((ROOT / "topology.yaml").read_text())
    del config["broker"]
    config["services"] = {name: config["services"][name] for name in services}
    if "order_api" in services:
        config["services"]["order_api"]["options"] = {"port": port}
    for name, change in (changes or {}).items():
        entry = config["services"][name]
        options = {**entry.get("options", {}), **change.get("options", {})}
        entry.update({**change, "options": options})
    sources: dict[str, str | Path] = {
        "order_api": ROOT / "plugins" / "order_api",
        "payment": ROOT / "plugins" / "payment.py",
    }
    sources["notification"] = ROOT / "plugins" / "notification"
    return ground.project(vhost, config, topology, {**sources, **(plugins or {})})
