"""A snapshot of a project's dead letters, which a page can show and search without reading the queues again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runner.broker.find import known_management
from runner.config.project import load_project
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.fingerprint import Cause, cause_of
from runner.deadletters.grouping import GroupedDeadLetters
from runner.deadletters.open_queues import found_queues
from runner.deadletters.selection import Selection
from runner.invocation import invocation
from runner.topology.compile import compile_topology
from runner.topology.plan import counted

#: The maximum number of messages from one dead-letter queue in a snapshot.
MOST_MESSAGES = 1000
#: The maximum total size of the bodies in a snapshot, in bytes.
MAX_BODIES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SnapshotDeadLetter:
    """A dead letter in a snapshot."""

    message: DeadLetter
    #: The queue in which the message failed, or None if it is unknown.
    origin: str | None
    cause: Cause


@dataclass(frozen=True)
class DeadLetterSnapshot:
    """The dead letters of a project at one time. An unread snapshot contains no messages."""

    dead_letters: tuple[SnapshotDeadLetter, ...] = ()
    #: The number of messages in each dead-letter queue that contains messages. A snapshot may contain fewer messages.
    counts: dict[str, int] = field(default_factory=dict)
    #: The reasons why messages may be missing.
    warnings: tuple[str, ...] = ()
    #: The time of the read in seconds since the epoch.
    taken_at: float = 0.0

    @property
    def total(self) -> int:
        """The number of messages in the dead-letter queues."""
        return sum(self.counts.values())

    @property
    def is_cut(self) -> bool:
        """True if the queues contain more messages than the snapshot."""
        return len(self.dead_letters) < self.total

    @property
    def origins(self) -> list[str]:
        """The queues in which messages have failed."""
        return sorted({one.origin or one.message.queue for one in self.dead_letters})

    def selected(self, selection: Selection, queue: str | None = None) -> Iterator[SnapshotDeadLetter]:
        """Yield the selected dead letters from ``queue``, the original queue or the dead-letter queue, or from all."""
        for one in self.dead_letters:
            if queue in (None, one.origin, one.message.queue) and selection.matches(one.message, one.origin):
                yield one

    def grouped(self, selection: Selection, queue: str | None = None) -> GroupedDeadLetters:
        """Return the groups of the selected dead letters."""
        found = GroupedDeadLetters()
        for one in self.selected(selection, queue):
            found.add(one.message, one.origin)
        return found


def read_snapshot(folder: Path) -> DeadLetterSnapshot:
    """Read the dead letters of the project in ``folder``. No message is removed.

    Queues from which the broker would drop messages after some reads are only counted.

    Raises ConfigError for an error in the project's files, and BrokerUnreachable if no broker answers. Unlike a
    command, the function never starts a broker.
    """
    project = load_project(folder)
    objects = compile_topology(project.topology, project.consumed)
    management_url = known_management(project.config.broker.url, project.var / "broker")
    warnings: list[str] = []
    there = found_queues(project, objects, management_url, warnings.append)
    letters: list[SnapshotDeadLetter] = []
    room = MAX_BODIES

    def keep(message: DeadLetter, origin: str | None) -> None:
        nonlocal room
        room -= len(message.body)
        if room >= 0:
            letters.append(SnapshotDeadLetter(message, origin, cause_of(message, origin)))

    # A snapshot is taken again and again, and each read counts as a failed delivery.
    there.read(keep, limit=MOST_MESSAGES, omitted=there.limits)
    for name, limit in there.limits.items():
        command = invocation("dlq", "list", "--queue", name)
        why = f"the broker dead-letters or drops a message after {counted(limit + 1, 'read')}; to read them: {command}"
        warnings.append(f"queue {name}: a delivery limit of {limit}, so its messages are not shown; {why}")
    return DeadLetterSnapshot(tuple(letters), there.counts, tuple(warnings), time.time())
