"""Commands to a running supervisor over a socket, and the supervisor's periodic checks.

Only its owner can open the Unix socket. Each line is a JSON object. A client sends one request, such as ``{"version":
1, "command": "restart", "target": "payment"}``. The client receives any number of ``{"line": ...}`` objects, followed
by ``{"ok": true, ...}`` or ``{"ok": false, "error": "..."}``. A client can add its ``invocation`` to the request, so
that commands in the responses start with the client's invocation.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

VERSION = 1
#: The name of the socket in the project's ``var`` folder.
FILE = "runner.sock"
#: The maximum size of a request in bytes.
MAX_REQUEST = 64 * 1024


@contextlib.contextmanager
def socket_path(folder: Path) -> Iterator[str]:
    """Yield a path to the socket in ``folder`` that fits into a Unix socket address of 108 bytes (unix(7))."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{FILE}"
    finally:
        os.close(descriptor)
