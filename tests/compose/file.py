"""The contents of compose.yaml and Dockerfile as plain values."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from tests.running import ROOT

#: The services of compose.yaml that use the image of the Dockerfile, except the service that exits.
OURS = (
    "order-service", "payment-service", "notification-service", "audit-service", "dashboard-service", "runner",
)  # fmt: skip


def compose(path: Path = ROOT / "compose.yaml") -> dict[str, Any]:
    """Return the file with its anchors and merges resolved."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def environment_of(service: dict[str, Any]) -> dict[str, str | None]:
    """Return the variables of a service. None means that Compose passes the variable on."""
    given = service.get("environment", {})
    if isinstance(given, dict):
        return given
    pairs = (item.partition("=") for item in given)
    return {name: value if sign else None for name, sign, value in pairs}


def profile(services: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the services of a profile: those with this profile, and those without any."""
    return {key: one for key, one in services.items() if name in one.get("profiles", [name])}


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, each with its arguments on one line."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    pairs = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [(word.upper(), " ".join(shlex.split(rest, posix=False))) for word, _, rest in pairs]
