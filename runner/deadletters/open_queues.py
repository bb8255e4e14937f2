"""A project's dead-letter queues on the broker, with warnings about messages that cannot be read."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import click

from runner.admin.management import Management, reported_count
from runner.admin.management_api import ManagementError
from runner.admin.queue_counts import QueueCounts, look, verified_counts
from runner.cli.temporary_broker import broker_for
from runner.cli.terminal import progress, warn
from runner.config.error_detail import one_of
from runner.config.project import Project, load_project
from runner.config.version import QUORUM
from runner.deadletters.browser import Browser
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.origins import Origins
from runner.deadletters.read_limit import read_limits
from runner.errors import RunnerError
from runner.escape import one_line
from runner.inspection.checked_project import with_recorders
from runner.topology.compile import compile_topology
from runner.topology.model import Objects
from runner.topology.plan import counted

#: The suffix of a dead-letter queue's default name.
DEAD = ".dlq"
#: Seconds to wait for a busy queue to report its number of messages.
COUNT_TIMEOUT = 8.0
#: Seconds to wait for other clients that are reading dead letters, and between two checks.
READERS_TIMEOUT, READERS_INTERVAL = 1.0, 0.1


#: The subject of a timeline entry about a command for all dead-letter queues.
ALL_QUEUES = "all dead-letter queues"


@dataclass(frozen=True)
class OpenQueues:
    """The dead-letter queues that exist on the broker."""

    project: Project
    url: str
    management: Management
    places: Origins
    #: The number of messages in each non-empty queue at the start of the command.
    counts: dict[str, int]
    #: The queue in which all selected messages failed, or None to select messages from any queue.
    origin: str | None
    #: The argument of ``--queue``, or None for all dead-letter queues.
    queue: str | None = None
    #: The dead-letter queues that have other consumers.
    read_by_others: tuple[str, ...] = ()
    #: The delivery limit of each quorum queue that has one. Each read counts as a failed delivery.
    limits: dict[str, int] = field(default_factory=dict)
    #: The number of messages that the last call to ``read`` found in each queue.
    seen: Counter[str] = field(default_factory=Counter)

    @cached_property
    def attempts_queue(self) -> str | None:
        """The queue for notes about attempts and discarded messages. Raises ConfigError."""
        return with_recorders(self.project).attempts_queue

    @property
    def hidden(self) -> list[str]:
        """The queues that appear empty although another consumer may have their messages."""
        return [name for name in self.read_by_others if not (self.seen or self.counts).get(name)]

    @property
    def total(self) -> int:
        """The total number of messages at the start of the command."""
        return sum(self.counts.values())

    def read(
        self,
        on_message: Callable[[DeadLetter, str | None], None],
        label: str = "reading",
        limit: int | None = None,
        omitted: Collection[str] = (),
    ) -> None:
        """Call ``on_message`` with each message and the queue in which it failed. No message is removed.

        ``limit`` is the maximum number of messages that are read from each queue. ``omitted`` are queues that are not
        read.
        """
        self.seen.clear()
        self.seen.update(dict.fromkeys(self.counts, 0))
        with progress(label, self.total) as show:
            done = 0

            def each(message: DeadLetter) -> None:
                nonlocal done
                done += 1
                self.seen[message.queue] += 1
                if done % 1000 == 0:
                    show(done)
                origin = self.places.origin_of(message)
                if self.origin is None or origin == self.origin:
                    on_message(message, origin)

            for queue in [name for name in self.counts if name not in omitted]:
                Browser(self.url, queue, each, limit).run()


@contextlib.contextmanager
def opened(folder: Path, queue: str | None) -> Iterator[OpenQueues]:
    """Open all dead-letter queues. If ``queue`` is given, open only this queue or its dead-letter queue.

    Raises ConfigError, click.BadParameter for an unknown queue, or BrokerUnreachable if no broker answers.
    """
    project = load_project(folder)
    objects = compile_topology(project.topology, project.consumed)
    places = Origins.of(objects)
    try:
        places.choose(queue)
    except KeyError:
        text = f"no dead-letter queue, and no queue with a dead-letter queue, is named {queue!r}"
        raise click.BadParameter(f"{text}; {one_of(queue or '', places.names)}", param_hint="--queue") from None
    # After SIGTERM, as after Ctrl-C, the command removes an unfinished file and stops a broker that the command has
    # started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with broker_for(project) as management_url:
        there = found_queues(project, objects, management_url, warn, queue)
        for name, limit in there.limits.items():
            warn(
                f"queue {name}: a quorum queue with a delivery limit of {limit}; each read counts as a failed"
                " delivery, and the broker dead-letters or drops a message that exceeds the limit"
            )
        yield there


def found_queues(
    project: Project,
    objects: Objects,
    management_url: str | None,
    warn: Callable[[str], None],
    queue: str | None = None,
) -> OpenQueues:
    """Return the dead-letter queues of a project, or only ``queue`` or its dead-letter queue.

    ``objects`` is the compiled topology. ``warn`` is called with each reason why messages may be missing. Raises
    KeyError for an unknown queue, and BrokerUnreachable if no broker answers.
    """
    places, broker = Origins.of(objects), project.config.broker
    queues, origin = places.choose(queue)
    unknown: dict[str, str] = {}
    url, found = _counts_without_readers(broker.url, queues, unknown, project.consumed)
    management = Management(url, broker.management or management_url)
    for reason in unknown.values():
        warn(f"{reason}; dead letters in this queue are missing from the result, so run the command again")
    made = _made(project, management) if None in found.values() else frozenset()
    for name, counts in found.items():
        if counts is None:
            if name in made:
                warn(f"queue {name}: not on the broker yet; to create the queue, run apply or start the system")
        elif counts.consumers:
            warn(f"queue {name}: {counted(counts.consumers, 'other consumer')}; unacked messages cannot be read")
    if queue is None:
        _warn_of_orphans(url, management, {*places.origins, *(one.name for one in objects.queues)}, warn)
    quorum = {one.name for one in objects.queues if one.type == QUORUM}
    for name in [one for one in quorum & found.keys() if found[one] == QueueCounts(0, 0)]:
        found[name] = _verified(name, url, management, warn)
    held = {name: counts.messages for name, counts in found.items() if counts is not None and counts.messages}
    limits = read_limits(held, objects, management)
    others = tuple(name for name, counts in found.items() if counts is not None and counts.consumers)
    return OpenQueues(project, url, management, places, held, origin, queue, others, limits)


def _counts_without_readers(
    urls: Sequence[str], queues: Sequence[str], unknown: dict[str, str], consumed: Collection[str]
) -> tuple[str, dict[str, QueueCounts | None]]:
    """Return the broker's URL and the counts of the queues, if possible at a time at which no other client reads them.

    While the dashboard or another command reads dead letters, the messages are invisible to this command. Most reads
    take a fraction of a second.
    """
    deadline = time.monotonic() + READERS_TIMEOUT
    while True:
        url, found = look(urls, queues, unknown)
        is_read = any(one and one.consumers and name not in consumed for name, one in found.items())
        if not is_read or time.monotonic() > deadline:
            return url, found
        time.sleep(READERS_INTERVAL)


def _made(project: Project, management: Management) -> frozenset[str]:
    """Return the names of the queues that ``apply`` creates.

    If policies cannot be set, only the quorum queues that services consume get a dead-letter queue.
    """
    try:
        with_policies = management.may_set_policies()
    except ManagementError:
        with_policies = False
    objects = compile_topology(project.topology, project.consumed, with_policies=with_policies)
    return frozenset(one.name for one in objects.queues)


def _warn_of_orphans(url: str, management: Management, known: set[str], warn: Callable[[str], None]) -> None:
    """Warn about dead letters that cannot be read because their queue was removed from topology.yaml."""
    try:
        found = management.request("GET", "queues", management.vhost, query="?columns=name,messages")
    except ManagementError:
        return  # without the HTTP API, the broker's other queues are unknown
    for one in found:
        name = str(one["name"])
        if not name.endswith(DEAD) or name in known:
            continue
        count = reported_count(one, "messages")
        if count is None:
            try:
                counts = look([url], [name])[1][name]
            except RunnerError:
                continue  # the queue's count remains unknown
            count = 0 if counts is None else counts.messages
        if count:
            warn(
                f"queue {one_line(name)}: {counted(count, 'message')}, but its original queue is no longer in"
                " topology.yaml; to read the messages, add the original queue again"
            )


def _verified(name: str, url: str, management: Management, warn: Callable[[str], None]) -> QueueCounts:
    """Return verified counts of a quorum queue, because a queue that is too busy to answer also reports 0 messages."""
    try:
        # RabbitMQ's statistics can also be out of date, so neither the statistics nor the queue's own count is
        # sufficient.
        if management.ready_of(name) != 0:
            return verified_counts(url, name, COUNT_TIMEOUT)
    except ManagementError:
        pass  # without statistics, only the queue's own count is available
    except RunnerError as error:
        warn(f"{error}; run the command again")
    return QueueCounts(0, 0)
