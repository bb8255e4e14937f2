"""The address of the database in config.yaml, read without pydantic.

The full check takes longer than all the rest of such a command.
"""

from __future__ import annotations

import re
from pathlib import Path

from runner.bounded_file import read_bounded
from runner.config.document import MAX_BYTES, Document

DEFAULT_URL = "sqlite:///var/fastcommerce.db"

#: What needs no further look. Others take their time to connect, and nobody notices the full check beside it.
_PLAIN_URL = re.compile(r"sqlite:///[^?#]+(?<!:memory:)")


def read_quickly(folder: Path) -> str | None:
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
    if any("store" in one for one in services.values()):
        return None  # which of them has the event history, their plugins say
    return url or DEFAULT_URL
