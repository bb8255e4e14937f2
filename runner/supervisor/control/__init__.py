"""The control of a running supervisor: commands over a socket, and regular checks.

The socket is a Unix socket that only its owner may open. Each line is a JSON object. A client sends one request, such
as ``{"version": 1, "command": "restart", "target": "payment"}``. The client receives any number of ``{"line": ...}``
objects, followed by ``{"ok": true, ...}`` or ``{"ok": false, "error": "..."}``. A client in another folder adds its own
``invocation`` to the request, and the commands in the answers start with this invocation.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

VERSION = 1
#: The name of the socket in the project's ``var`` folder.
FILE = "runner.sock"
#: The maximum size of a request, in bytes.
MAX_REQUEST = 64 * 1024


@contextlib.contextmanager
def socket_path(folder: Path) -> Iterator[str]:
    """Yield a path to the socket in ``folder`` that fits into the 108 bytes of a Unix socket address (unix(7))."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{FILE}"
    finally:
        os.close(descriptor)
