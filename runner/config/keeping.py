"""What a command that only looks into the database needs to know of config.yaml, read without pydantic.

The full check takes longer than all the rest of such a command.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.bounded_file import read_bounded
from runner.config.document import MAX_BYTES, Document

DEFAULT_URL = "sqlite:///var/fastcommerce.db"
#: The plugin that writes down what happens.
AUDIT = "audit"

#: What needs no further look. Others take their time to connect, and nobody notices the full check beside it.
_PLAIN_URL = re.compile(r"sqlite:///[^?#]+(?<!:memory:)")


@dataclass(frozen=True)
class Keeping:
    """Where the database is, and whether anything is written down there."""

    url: str
    is_audited: bool
    is_traced: bool


def read_quickly(folder: Path) -> Keeping | None:
    """Read it from the ``config.yaml`` of ``folder``; None where anything is not as it mostly is."""
    try:
        document = Document("config.yaml", read_bounded(folder / "config.yaml", MAX_BYTES, 0.0).decode("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None  # the full check says why
    services, url = document.data.get("services", {}), document.at(("store", "url"))
    store = document.data.get("store", {})
    is_usual = isinstance(store, dict) and set(store) <= {"url"} and isinstance(services, dict)
    if document.faults or not is_usual or not all(isinstance(one, dict) for one in services.values()):
        return None
    if "url" in store and not (isinstance(url, str) and _PLAIN_URL.fullmatch(url)):
        return None
    return found_in(url or DEFAULT_URL, services, document.data.get("trace"))


def found_in(url: str, services: dict[str, Any], trace: object) -> Keeping:
    """What these parts of the file come to; ``services`` as mappings that may name a ``plugin``."""
    plugins = {one.get("plugin") or name for name, one in services.items()}
    return Keeping(url, AUDIT in plugins, trace is not None)
