"""The queue that a command reads or changes, with its broker, type, settings and counts."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from runner.admin.management import Management, reported_count
from runner.admin.management_api import ManagementError
from runner.admin.queue_counts import QueueCounts, look, version_at
from runner.cli.temporary_broker import broker_for
from runner.cli.terminal import warn
from runner.config.error_detail import one_of
from runner.config.project import Project, load_project
from runner.config.value import MAX_NAME_BYTES
from runner.config.version import DEFAULT_DELIVERY_LIMIT, HAS_DELIVERY_LIMIT, NACK_IS_NO_FAILURE, QUORUM
from runner.deadletters.message_text import one_line
from runner.errors import RunnerError
from runner.inspection.checked_project import with_recorders
from runner.invocation import invocation
from runner.topology.compile import compile_topology
from runner.topology.effective_settings import Policies
from runner.topology.model import Objects, Queue
from runner.topology.plan import counted

_LIMIT = "delivery-limit"


@dataclass(frozen=True)
class Target:
    """A queue on the broker."""

    name: str
    counts: QueueCounts
    #: The number of unacked messages, or None if the number is unknown.
    unacked: int | None
    #: The queue type, or None if neither the HTTP API nor topology.yaml specifies the type.
    kind: str | None
    #: The arguments of the queue, and the settings of its effective policy.
    arguments: Mapping[str, Any]
    settings: Mapping[str, Any]
    #: True if the type, arguments and settings are from the HTTP API, and False if they are from topology.yaml.
    is_reported: bool = False

    def setting(self, key: str) -> Any:
        """Return the value of a policy key or of the corresponding argument, or None if neither is set."""
        argument = self.arguments.get(f"x-{key}")
        return self.settings.get(key) if argument is None else argument

    @property
    def limit(self) -> int | None:
        """The delivery limit of the queue, or None if no limit is known."""
        said = [self.arguments.get(f"x-{_LIMIT}"), self.settings.get(_LIMIT)]
        limits = [one for one in said if isinstance(one, int) and one >= 0]
        return min(limits) if limits else None

    @property
    def is_single(self) -> bool:
        """True if the queue delivers only to a single active consumer."""
        return bool(self.arguments.get("x-single-active-consumer"))

    @property
    def held(self) -> str:
        """The number of unacked messages as text, or an empty text if there are none."""
        if self.unacked is None:
            return "an unknown number unacked"
        return f"{self.unacked} unacked" if self.unacked else ""

    @property
    def remaining(self) -> str:
        """A clause about unacked messages that remain with their consumers, or an empty text if there are none."""
        return "" if self.unacked == 0 else f"; {counted(self.unacked, 'unacked message')} left with consumers"


@dataclass(frozen=True)
class OpenProject:
    """A project with its broker, opened to find queues by name."""

    project: Project
    objects: Objects
    url: str
    management: Management

    @cached_property
    def attempts_queue(self) -> str | None:
        """The queue for notes about attempts and removed messages. Raises ConfigError."""
        return with_recorders(self.project).attempts_queue

    def find(self, name: str, hint: str) -> Target:
        """Return a queue by its name, even if the queue is generated or is not in topology.yaml.

        ``hint`` is the name of the command-line argument, for errors. Raises BrokerUnreachable, BrokerRefused, and
        click.BadParameter for an unknown queue. Raises RunnerError if a queue in topology.yaml is not on the broker.
        """
        known = {one.name: one for one in self.objects.queues}
        counts = look([self.url], [name])[1][name] if _is_name(name) else None
        if counts is None and name in known:
            raise RunnerError(f"queue {name!r}: not on the broker yet; to create it: {invocation('apply')}")
        if counts is None:
            raise click.BadParameter(f"unknown queue {name!r}; {one_of(name, known)}", param_hint=hint)
        try:
            found = self.management.request("GET", "queues", self.management.vhost, name)
            if not isinstance(found, dict):
                raise ManagementError("no object")  # another program answers at this address
            written = Policies(self.objects.policies).settings_of(known[name]) if name in known else {}
            settings = self.management.policy_definition_of(found, written)
        except ManagementError:
            unacked = unacked_of(None, counts.consumers)
            return self._of_file(known[name], counts, unacked) if name in known else _unknown(name, counts, unacked)
        unacked = unacked_of(reported_count(found, "messages_unacknowledged"), counts.consumers)
        return Target(name, counts, unacked, str(found.get("type")), found.get("arguments") or {}, settings, True)

    def _of_file(self, queue: Queue, counts: QueueCounts, unacked: int | None) -> Target:
        settings = Policies(self.objects.policies).settings_of(queue)
        return Target(queue.name, counts, unacked, queue.type, queue.arguments, settings)

    def delivery_limit(self, target: Target) -> int | None:
        """Return the delivery limit to assume for a queue, or None for no limit.

        Raises RunnerError if the queue type is unknown and a read may count as a failed delivery.
        """
        version = version_at(self.url)
        if target.kind is None and not NACK_IS_NO_FAILURE.holds(version):
            text = "its type and delivery limit are unknown, and each read may count as a failed delivery"
            remedy = "enable rabbitmq_management, or add the queue to topology.yaml"
            raise RunnerError(f"queue {target.name!r}: {text}; {remedy}")
        if target.kind != QUORUM:
            return None
        if not HAS_DELIVERY_LIMIT.holds(version) or (target.is_reported and target.limit is not None):
            return target.limit
        # The policy in topology.yaml may be missing on the broker. In that case, the default limit applies.
        limits = [target.limit] if target.limit is not None else []
        return None if self._is_unlimited(target) else min([DEFAULT_DELIVERY_LIMIT, *limits])

    def _is_unlimited(self, target: Target) -> bool:
        said = [target.arguments.get(f"x-{_LIMIT}"), target.settings.get(_LIMIT)]
        return any(isinstance(one, int) and one < 0 for one in said)


def _is_name(text: str) -> bool:
    """Return True if a text is a valid queue name in AMQP. An argument that is not UTF-8 contains surrogates."""
    try:
        return 0 < len(text.encode()) <= MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False


def unacked_of(reported: int | None, consumers: int | None) -> int | None:
    """Return the number of unacked messages, or None if the number is unknown. ``reported`` is from the statistics.

    If a queue has no consumer, only messages from ``basic.get`` can be unacked. If the statistics report unacked
    messages for a queue without a consumer, the statistics may be outdated.
    """
    if consumers == 0:
        return None if reported else 0
    return reported


def _unknown(name: str, counts: QueueCounts, unacked: int | None) -> Target:
    return Target(name, counts, unacked, None, {}, {})


@contextlib.contextmanager
def open_project(folder: Path) -> Iterator[OpenProject]:
    """Open the project in a folder, together with the broker that answers.

    Raises ConfigError, BrokerUnreachable, and BrokerRefused.
    """
    project = load_project(folder)
    # SIGTERM must clean up like Ctrl-C, for example by stopping a broker that was started for this command.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with broker_for(project) as management_url:
        url = look(project.config.broker.url, [])[0]
        management = Management(url, project.config.broker.management or management_url)
        yield OpenProject(project, compile_topology(project.topology, project.consumed), url, management)


def services_of(queue: str, project: Project) -> list[str]:
    """Return the services that consume a queue."""
    return [name for name, one in project.config.services.items() if queue in one.consumes]


def readers(target: Target, project: Project) -> str:
    """Return a description of the consumers of a queue, or an empty text if the queue has no consumers."""
    if not target.counts.consumers:
        return ""
    services = services_of(target.name, project)
    named = f" ({', '.join(services)})" if services else ""
    return f"{counted(target.counts.consumers, 'consumer')}{named}"


def check_delivers(target: Target, project: Project) -> None:
    """Raise RunnerError if the queue has a single active consumer, because no other consumer would get a message."""
    if target.is_single and target.counts.consumers:
        services = services_of(target.name, project)
        remedy = invocation("stop", services[0]) if services else "stop the program that consumes the queue"
        text = "the queue delivers only to its single active consumer"
        raise RunnerError(f"queue {target.name!r}: {text}; first: {remedy}")


def warn_of_readers(target: Target, project: Project) -> None:
    """Print a warning if the queue has consumers, which may receive messages while the command is reading the queue."""
    if who := readers(target, project):
        warn(f"queue {one_line(target.name)}: read by {who}, which may receive some of the messages")
