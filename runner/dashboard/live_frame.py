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
#: The figures of a slot that change only with its state.
STEADY = ("state", "why", "problem", "pid", "restarts", "lines")


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


def broker_state(frame: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a value that changes when the broker or a queue becomes available or unavailable."""
    missing = [name for name, one in frame["queues"].items() if one.get("missing")]
    return frame.get("broker_problem"), missing


def slot_key(slot: Mapping[str, Any]) -> str:
    """Return the name of a slot. During a rollout, two processes have the same name."""
    return str(slot["slot"]) if slot["role"] == "holder" else f"{slot['slot']} ({slot['role']})"


def slot_figures(slot: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Return the figures of a slot in a snapshot that was taken at ``now``, in seconds since the epoch."""
    # Counters and times that change every second would make each frame large.
    left_out = ("edges", "handler_time", "queue_time", "since", "uptime", "handled", "published", "unacked")
    kept = {name: value for name, value in slot.items() if name not in left_out}
    if (last := slot["last_exit"]) is not None:
        kept["last_exit"] = {"code": last["code"], "words": last["words"], "at": round(now - last["ago"])}
    return kept | {"started": None if slot["uptime"] is None else round(now - slot["uptime"])}


def steady_part(frame: Mapping[str, Any]) -> list[Any]:
    """Return the part of a frame after whose changes the rows of services must be rendered again.

    All other figures of a slot change in place.
    """
    slots = {key: {name: one.get(name) for name in STEADY} for key, one in frame["slots"].items()}
    return [frame["live"], {name: one.get("count") for name, one in frame["services"].items()}, slots]


def empty_frame() -> dict[str, Any]:
    """Return the frame before the first snapshot."""
    return {
        "n": 0, "time": 0.0, "live": "connecting", "runner": {}, "services": {}, "slots": {}, "queues": {},
        "edges": {}, "symptoms": [], "title": "FastCommerce", "versions": {}, "timeline": [],
    }  # fmt: skip
