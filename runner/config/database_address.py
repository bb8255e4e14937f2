"""A reader of the database address in config.yaml that does not import pydantic.

Commands that only read the database use this module, because the full check of config.yaml takes longer than all other
steps of the command.
"""

from __future__ import annotations

import re
from pathlib import Path

from runner.bounded_file import read_bounded
from runner.config.document import MAX_BYTES, Document

DEFAULT_URL = "sqlite:///var/fastcommerce.db"

#: The addresses that need no further check. Connecting to any other database takes longer than the check.
_PLAIN_URL = re.compile(r"sqlite:///[^?#]+(?<!:memory:)")


def read_quickly(folder: Path) -> str | None:
    """Return the database address from ``config.yaml`` in ``folder``, or None if the file needs the full check."""
    try:
        document = Document("config.yaml", read_bounded(folder / "config.yaml", MAX_BYTES, 0.0).decode("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None  # the full check reports the reason
    services, url = document.data.get("services", {}), document.at(("store", "url"))
    store = document.data.get("store", {})
    is_usual = isinstance(store, dict) and set(store) <= {"url"} and isinstance(services, dict)
    if document.faults or not is_usual or not all(isinstance(one, dict) for one in services.values()):
        return None
    if "url" in store and not (isinstance(url, str) and _PLAIN_URL.fullmatch(url)):
        return None
    if any("store" in one for one in services.values()):
        return None  # only the plugins state which service records the event history
    return url or DEFAULT_URL
