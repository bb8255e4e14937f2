"""The live frame, which is everything that the pages show of a running system, and the differences between two frames.

A frame is a JSON object. Browsers read the first frame as a whole, and afterwards only the values that have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The parts of a frame that are objects whose values change one by one.
TABLES = ("slots", "services", "queues", "edges", "versions")
#: The parts that are sent as a whole whenever they change.
VALUES = ("title", "live", "runner", "symptoms", "facts", "fault_injection")
#: The parts that contain only what is new since the previous frame.
STREAMS = ("timeline", "steps", "more_steps", "edge_names")


def delta(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of ``new`` that differs from ``old``. A removed value of a table is None."""
    found: dict[str, Any] = {"n": new["n"], "time": new["time"]}
    for name in TABLES:
        before, after = old.get(name, {}), new.get(name, {})
        changed = {key: value for key, value in after.items() if before.get(key) != value}
        changed |= {key: None for key in before if key not in after}
        if changed:
            found[name] = changed
    found |= {name: new[name] for name in VALUES if name in new and new[name] != old.get(name)}
    return found | {name: new[name] for name in STREAMS if new.get(name)}
