"""The names that a request's Host header may have."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: This machine, as its own clients name it.
LOCAL = ("localhost", "127.0.0.1", "[::1]")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)


class Hosts:
    """The names for which a service answers: a web page may point its own name at this address (DNS rebinding)."""

    def __init__(self, allowed: Iterable[str], host: str) -> None:
        """``host`` is the address to listen on; ``*`` among the ``allowed`` allows any name."""
        own_name = f"[{host}]" if ":" in host else host
        self._allowed = {name.lower() for name in (*allowed, own_name)}

    def is_own(self, header: str) -> bool:
        """Return True if the service answers for this value of the header."""
        match = _HOST.fullmatch(header)
        return match is not None and ("*" in self._allowed or match[1].lower() in self._allowed)
