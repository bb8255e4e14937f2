"""The ``note`` command, with which commands that act outside the supervisor report to the timeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.supervisor.timeline import Timeline

#: The kinds of timeline entries that a client may add. All other kinds are the supervisor's own observations.
NOTE_KINDS = ("command", "fault")


def add_note(timeline: Timeline, request: Mapping[str, Any]) -> None:
    """Add the note in a request to the timeline. Raises ValueError if a field is invalid."""
    kind, subject, text = (request.get(name) for name in ("kind", "subject", "text"))
    if kind not in NOTE_KINDS:
        raise ValueError(f"kind: unknown kind, {kind!r}; allowed: {', '.join(NOTE_KINDS)}")
    for name, value in (("subject", subject), ("text", text)):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name}: invalid value, {value!r}; allowed: a text that is not empty")
    timeline.add(str(kind), str(subject), str(text))
