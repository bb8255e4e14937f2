"""The shapes of marks, each a path in a square of 14 pixels.

States differ by their shapes, and not only by their colors.
"""

from __future__ import annotations

_RING = "M2.2 7a4.8 4.8 0 1 0 9.6 0a4.8 4.8 0 1 0-9.6 0z"
_DIAMOND = "M7 .8L13.2 7 7 13.2 .8 7z"
_SQUARE = "M2.5 2.5h9v9h-9z"

#: The path for each state of a service. A page shows another state by changing the path and the class.
STATES = {
    "running": "M2 7a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
    "waiting": _RING,
    "starting": _RING,
    "backoff": "M11.8 8.4A5 5 0 1 1 10.6 3.5L12.2 5.1M12.4 1.2V5.3H8.3",
    "fatal": "M4.3 1h5.4L13 4.3v5.4L9.7 13H4.3L1 9.7V4.3zM5.6 4.3L4.3 5.6 5.7 7 4.3 8.4 5.6 9.7 7 8.3 8.4 9.7"
    " 9.7 8.4 8.3 7 9.7 5.6 8.4 4.3 7 5.7z",
    "stopping": _SQUARE,
    "stopped": _SQUARE,
    "exited": _SQUARE,
    "paused": "M4.5 2.5v9M9.5 2.5v9",
}
#: The path for each kind of badge.
BADGES = {
    "dead": _DIAMOND,
    "retry": "M3 5.5H9a3 3 0 0 1 0 6H5M5.8 2.5L2.8 5.5 5.8 8.5",
    "unrouted": "M1 2h12L7 12.5z",
    "growth": "M7 1.5L13 12H1z",
    "route": _DIAMOND,
}
