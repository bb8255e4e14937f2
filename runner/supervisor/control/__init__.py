"""What a running supervisor can be asked and told, and what it looks at now and then.

A command reaches it by one JSON object a line over a Unix socket that only its user may open. The client sends one
request, ``{"version": 1, "command": "restart", "target": "payment"}``, and gets any number of ``{"line": ...}``
objects, then ``{"ok": true, ...}`` or ``{"ok": false, "error": "..."}``. A client in another folder adds its own
``invocation``, and the commands in the answers begin with that.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

VERSION = 1
#: In the project's ``var``.
FILE = "runner.sock"
#: Bytes of one request.
MAX_REQUEST = 64 * 1024


@contextlib.contextmanager
def socket_path(folder: Path) -> Iterator[str]:
    """A path of the socket in ``folder`` that is short enough for a Unix socket's 108 bytes (unix(7))."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{FILE}"
    finally:
        os.close(descriptor)
