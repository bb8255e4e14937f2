"""The timeline of a running system: the latest changes of its slots, and the commands that changed the system."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from runner.errors import EXIT_BROKER, EXIT_OK, EXIT_STORE
from runner.supervisor.slot_lifecycle import SlotState
from runner.supervisor.transition_report import Role, Transition, words

#: The maximum number of entries. Above this number, the oldest entries are dropped.
MOST_ENTRIES = 500
#: The maximum number of characters in a subject and in a text.
LONGEST_SUBJECT, LONGEST_TEXT = 255, 500
#: The kinds of entries. ``refused`` is a reload that failed, ``fault`` an injected fault, and ``command`` a command of
#: a user. ``broker`` is a change in the availability of the broker, or of the database that a slot needs.
KINDS = (
    "started", "stopped", "crashed", "restarting", "fatal", "scaled", "reloaded", "refused", "fault", "command",
    "broker",
)  # fmt: skip


@dataclass(frozen=True)
class TimelineEntry:
    """One change. Entries are numbered from 1."""

    id: int
    #: Seconds since the epoch.
    time: float
    kind: str
    #: The slot, service or queue that changed.
    subject: str
    text: str

    def as_json(self) -> dict[str, Any]:
        """Return the entry as a JSON object."""
        return asdict(self)


class Timeline:
    """The latest changes. Any thread may add an entry."""

    def __init__(self) -> None:
        self._entries: deque[TimelineEntry] = deque(maxlen=MOST_ENTRIES)
        self._last = 0
        self._lock = threading.Lock()

    def add(self, kind: str, subject: str, text: str, at: float | None = None) -> None:
        """Add an entry, shortened to the maximum lengths. ``at`` is in seconds since the epoch, by default now."""
        at = time.time() if at is None else at
        with self._lock:
            self._last += 1
            self._entries.append(
                TimelineEntry(self._last, at, kind, _cut(subject, LONGEST_SUBJECT), _cut(text, LONGEST_TEXT))
            )

    def add_transition(self, transition: Transition) -> None:
        """Add an entry for a transition of a slot, unless the transition is only a step on the way to another state."""
        if (found := _entry_of(transition)) is not None:
            self.add(found[0], transition.after.name, found[1], transition.time)

    def after(self, id: int) -> list[TimelineEntry]:
        """Return the entries with ids above ``id``, in order."""
        with self._lock:
            count = min(self._last - id, len(self._entries))
            return list(self._entries)[-count:] if count > 0 else []


def _entry_of(transition: Transition) -> tuple[str, str] | None:  # noqa: PLR0911 - one per state
    """Return the kind and the text of the entry for a transition, or None if the transition gets no entry."""
    before, slot, role = transition.before, transition.after, transition.role
    new = "the new process " if role is Role.FRESH else ""
    match slot.state:
        case SlotState.RUNNING:
            return "started", f"{new or 'the process '}is running, pid {slot.pid}"
        case SlotState.WAITING if role is Role.FRESH and before.state is SlotState.STOPPED:
            return "restarting", "a new process starts before the old process stops"
        case SlotState.WAITING if before.state is SlotState.STOPPING:
            return "restarting", "the old process has stopped, and a new process starts"
        case SlotState.BACKOFF:
            is_excused = slot.last_exit in (EXIT_BROKER, EXIT_STORE) and before.pid is not None
            return "restarting" if is_excused else "crashed", _text(transition, f"{new}{slot.why}")
        case SlotState.FATAL:
            return "fatal", _text(transition, f"{new}{slot.why}")
        case SlotState.EXITED:
            return "stopped" if slot.last_exit == EXIT_OK else "crashed", _text(transition, f"{new}{slot.why}")
        case SlotState.STOPPED if before.state is SlotState.STOPPING:
            return "stopped", f"{new or ('the old process ' if role is Role.OLD else 'the process ')}has stopped"
    return None


def _text(transition: Transition, otherwise: str) -> str:
    """Return the log line for a transition without the name of the slot, or ``otherwise`` if there is no log line."""
    line = words(transition)
    return otherwise if line is None else line[0].removeprefix(transition.after.name).lstrip()


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
