"""Commands to a running supervisor over a socket, and the supervisor's periodic checks.

Only its owner can open the Unix socket. Each line is a JSON object. A client sends one request, such as ``{"version":
1, "command": "restart", "target": "payment"}``. The client receives any number of ``{"line": ...}`` objects, followed
by ``{"ok": true, ...}`` or ``{"ok": false, "error": "..."}``. A client can add its ``invocation`` to the request, so
that commands in the responses start with the client's invocation.

The command ``watch`` answers with one ``{"snapshot": {...}}`` per second until the client disconnects, the first at
once. A snapshot contains the fields of ``status``, the wall-clock ``time`` and the monotonic ``clock`` in seconds, and:

- for each slot, ``edges``: rows of the kind of step, the exchange or queue, the routing key or retry delay, and the
  number of steps since the supervisor's start. Published events have their type as the fifth value.
- for each slot, ``queue_time`` and ``handler_time``: for each queue a histogram with ``buckets`` (see
  ``runner.ipc.step_memory.BOUNDS``), ``sum`` in seconds, and ``count``. A process times at most one handler per
  millisecond, so ``count`` can be lower than the number of attempts.
- ``removed_slots``: ``slot``, ``service``, ``edges``, ``queue_time`` and ``handler_time`` of each slot that no longer
  exists because its service has fewer instances. With them, the totals of a service never fall.
- ``steps``: rows of the time in milliseconds, the slot, the kind, the exchange or queue, the key, the order id and the
  attempt, ordered by time. The time of a published event is the time of sending. Its step appears only after the
  confirm, and therefore possibly in a later snapshot. ``lost`` is the number of steps that are missing, if any.
- ``timeline``: the entries since the last snapshot, as objects with ``id``, ``time``, ``kind``, ``subject`` and
  ``text``. The first snapshot contains the last 500 entries.

If two processes occupy a slot during a replacement, only one of them has the edges and histograms of the slot. A client
that reads slowly gets fewer snapshots. The next snapshot then contains all steps since the last snapshot.

The command ``note`` with ``kind`` (``command`` or ``fault``), ``subject`` and ``text`` adds an entry to the timeline.
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
