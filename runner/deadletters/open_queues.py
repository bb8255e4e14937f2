"""The dead-letter desk of a project, as its commands open it: which queues, on which broker, and what to beware of."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import click

from runner.admin.management import Management, reported_count
from runner.admin.management_api import ManagementError
from runner.admin.queue_counts import QueueCounts, look, sure_counts
from runner.cli.temporary_broker import broker_for
from runner.cli.terminal import progress, warn
from runner.config.error_detail import one_of
from runner.config.project import Project, load_project
from runner.config.version import QUORUM
from runner.deadletters.browser import Browser
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.origins import Origins
from runner.errors import RunnerError
from runner.escape import one_line
from runner.inspection.checked_project import with_recorders
from runner.topology.compile import compile_topology
from runner.topology.effective_settings import Policies
from runner.topology.model import Objects
from runner.topology.plan import counted

#: What the name of a dead-letter queue ends with, where topology.yaml gives it no other.
DEAD = ".dlq"
#: Seconds for a busy queue to say what it holds.
DOUBT = 8.0


@dataclass(frozen=True)
class OpenQueues:
    """Dead-letter queues that are there, on the broker that answers."""

    project: Project
    url: str
    management: Management
    places: Origins
    #: What each held when the command began; those that hold something, and only those.
    counts: dict[str, int]
    #: The only origin that is meant, None for all.
    origin: str | None
    #: What ``--queue`` named; None for the whole desk.
    queue: str | None = None
    #: The dead-letter queues that somebody else reads.
    read_by_others: tuple[str, ...] = ()
    #: How many messages the last reading saw in each.
    seen: Counter[str] = field(default_factory=Counter)

    @cached_property
    def attempts_queue(self) -> str | None:
        """The queue that gets a report of each attempt, also of discarded messages. Raises ConfigError."""
        return with_recorders(self.project).attempts_queue

    @property
    def hidden(self) -> list[str]:
        """The queues that look empty while somebody else may hold all of their messages."""
        return [name for name in self.read_by_others if not (self.seen or self.counts).get(name)]

    @property
    def total(self) -> int:
        """How many messages there were when the command began."""
        return sum(self.counts.values())

    def read(self, on_letter: Callable[[DeadLetter, str | None], None], label: str = "reading") -> None:
        """Show every message, with the queue in which it failed; nothing is consumed."""
        self.seen.clear()
        self.seen.update(dict.fromkeys(self.counts, 0))
        with progress(label, self.total) as show:
            done = 0

            def each(letter: DeadLetter) -> None:
                nonlocal done
                done += 1
                self.seen[letter.queue] += 1
                if done % 1000 == 0:
                    show(done)
                origin = self.places.origin_of(letter)
                if self.origin is None or origin == self.origin:
                    on_letter(letter, origin)

            for queue in self.counts:
                Browser(self.url, queue, each).run()


@contextlib.contextmanager
def opened(folder: Path, queue: str | None) -> Iterator[OpenQueues]:
    """Open the desk, or what ``queue`` names of it: a dead-letter queue, or one whose messages are parked there.

    Raises click.BadParameter for an unknown queue, ConfigError, and BrokerAway where no broker answers.
    """
    project = load_project(folder)
    objects = compile_topology(project.topology, project.consumed)
    places = Origins.of(objects)
    try:
        queues, origin = places.choose(queue)
    except KeyError:
        text = f"no dead-letter queue of this project, and none leads from it, {queue!r}"
        raise click.BadParameter(f"{text}; {one_of(queue or '', places.names)}", param_hint="--queue") from None
    # SIGTERM cleans up as Ctrl-C does: files that nobody asked for any more, a broker that was started for this.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with broker_for(project) as management_url:
        unknown: dict[str, str] = {}
        url, found = look(project.config.broker.url, queues, unknown)
        management = Management(url, project.config.broker.management or management_url)
        for reason in unknown.values():
            warn(f"{reason}; its dead letters are not seen here, look again")
        made = _made(project, management) if None in found.values() else frozenset()
        for name, counts in found.items():
            if counts is None:
                if name in made:
                    warn(f"queue {name}: not on the broker yet; apply, or a start, makes it")
            elif counts.consumers:
                warn(
                    f"queue {name}: {counted(counts.consumers, 'consumer')} besides; what is in somebody's hands is"
                    " not seen here"
                )
        if queue is None:
            _warn_of_orphans(url, management, {*places.origins, *(one.name for one in objects.queues)})
        quorum = {one.name for one in objects.queues if one.type == QUORUM}
        for name in [one for one in quorum & found.keys() if found[one] == QueueCounts(0, 0)]:
            found[name] = _sure(name, url, management)
        held = {name: counts.messages for name, counts in found.items() if counts is not None and counts.messages}
        for name in held:
            if (limit := _limit(name, objects, management)) is not None:
                warn(
                    f"queue {name}: a quorum queue with a delivery limit of {limit}: each look counts as a delivery in"
                    " vain, and after so many the broker drops the message or moves it on"
                )
        others = tuple(name for name, counts in found.items() if counts is not None and counts.consumers)
        yield OpenQueues(project, url, management, places, held, origin, queue, others)


def _made(project: Project, management: Management) -> frozenset[str]:
    """Return the queues that apply makes: without policies, only services' quorum queues get a dead-letter queue."""
    try:
        with_policies = management.may_set_policies()
    except ManagementError:
        with_policies = False
    objects = compile_topology(project.topology, project.consumed, with_policies=with_policies)
    return frozenset(one.name for one in objects.queues)


def _warn_of_orphans(url: str, management: Management, known: set[str]) -> None:
    """Say which messages the desk cannot reach, because their queue was taken out of topology.yaml."""
    try:
        found = management.request("GET", "queues", management.vhost, query="?columns=name,messages")
    except ManagementError:
        return  # whatever else is on the broker is not known then
    for one in found:
        name = str(one["name"])
        if not name.endswith(DEAD) or name in known:
            continue
        count = reported_count(one, "messages")
        if count is None:
            try:
                counts = look([url], [name])[1][name]
            except RunnerError:
                continue  # its count stays unknown
            count = 0 if counts is None else counts.messages
        if count:
            warn(
                f"queue {one_line(name)}: {counted(count, 'message')}, of no queue in topology.yaml any more; put its"
                " queue back to reach them"
            )


def _sure(name: str, url: str, management: Management) -> QueueCounts:
    """What a quorum queue holds that calls itself empty, as it also does when it is too busy to answer."""
    try:
        # RabbitMQ's statistics are late too: neither is believed alone.
        if management.ready_of(name) != 0:
            return sure_counts(url, name, DOUBT)
    except ManagementError:
        pass  # its own word is the best that is known then
    except RunnerError as error:
        warn(f"{error}; look again")
    return QueueCounts(0, 0)


def _limit(name: str, objects: Objects, management: Management) -> int | None:
    try:
        return management.delivery_limit_of(name)
    except ManagementError:
        pass  # what topology.yaml says is the best that is known then
    for queue in objects.queues:
        if queue.name == name and queue.type == QUORUM:
            policy = Policies(objects.policies).settings_of(queue)
            limit = queue.arguments.get("x-delivery-limit", policy.get("delivery-limit"))
            return limit if isinstance(limit, int) and limit >= 0 else None
    return None
