"""The declaration of the topology on the broker, with a line about each change."""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING

from runner.broker.find import Answering, Container, PrivateNode, known_management
from runner.config.project import Project
from runner.errors import BrokerUnreachable, DeclarationRefused, RunnerError
from runner.invocation import reset_invocation
from runner.preparation.preparation_client import Say

if TYPE_CHECKING:
    from runner.admin.ready_counter import ReadyCounter
    from runner.admin.reconciliation import Comparison
    from runner.topology.plan import Change, Decision, Left

#: The broker of the services: a running broker, a broker to start, or the error while no broker answers.
FoundBroker = Answering | PrivateNode | Container | BrokerUnreachable
#: The held-back exchanges and queues, each as kind and name.
Held = frozenset[tuple[str, str]]
#: The maximum time in seconds from a private broker's first response over AMQP to its first response over HTTP.
PATIENCE = 5.0


def import_reconcile() -> None:
    """Import the modules for AMQP and HTTP in advance, because the import is slow."""
    importlib.import_module("runner.admin.reconciliation")


class TopologySync:
    """A client that declares the topology of the running project."""

    def __init__(self, project: Project, broker: FoundBroker, say: Say, printed: set[str]) -> None:
        #: The current project.
        self.project = project
        # Preparation with the old project must not undo a reload.
        self._lock = threading.Lock()
        self._broker, self._say = broker, say
        #: The printed lines about unchanged objects, which must not be printed again.
        self._printed = printed
        self._counters: dict[tuple[str, ...], ReadyCounter] = {}

    def prepare(self, accepted: Held = frozenset(), *, removes: bool = True) -> Decision:
        """Apply the safe changes of the plan. ``accepted`` contains the held-back objects of the running services.

        If ``removes`` is false, bindings and policies that are no longer in topology.yaml are kept on the broker.
        Raises BrokerError if the broker is unreachable, and DeclarationRefused if another object must be replaced.
        """
        with self._lock:
            decision, lines = self._reconcile(self.project, is_start=True, removes=removes)
        if decision.held <= accepted:
            return decision
        if lines and isinstance(self._broker, PrivateNode | Container):
            command = reset_invocation(self.project.folder)
            lines.append(f"this broker is private; to delete all its messages and the database in var/, run: {command}")
        if lines:
            raise DeclarationRefused("\n".join(lines))
        return decision

    def reload(self, project: Project) -> tuple[Decision, list[str]]:
        """Switch to a new project, and apply the safe changes of its plan.

        Return the decision, and a line about each object that must be replaced. No object is removed, because the
        services still use the old project. Raises BrokerError if the broker is unreachable, and DeclarationRefused if
        the broker refuses an object. After an error, the old project remains in use.
        """
        with self._lock:
            result = self._reconcile(project, is_start=False, removes=False)
            self.project = project
            return result

    def ready_messages(self, service: str) -> int:
        """Return the number of ready messages in a service's queues. Raises BrokerError."""
        # Imported here, because only services with autoscaling need this module.
        from runner.admin.ready_counter import ReadyCounter

        config = self.project.config
        urls = config.broker.url
        if urls not in self._counters:
            self._counters[urls] = ReadyCounter(urls, "runner autoscale")
        return self._counters[urls].ready(config.services[service].consumes)

    def _reconcile(self, project: Project, *, is_start: bool, removes: bool) -> tuple[Decision, list[str]]:
        # Imported here, because importing pika takes time, and pika is not needed until the broker answers.
        from runner.admin.reconciliation import compare, reconcile
        from runner.topology.consent import Consent
        from runner.topology.plan import Mark, change_line

        say, is_ours = self._say, isinstance(self._broker, PrivateNode | Container)
        url = self._broker.management_url if isinstance(self._broker, PrivateNode | Container) else None
        url = url or known_management(project.config.broker.url, project.var / "broker")
        examination = compare(project, url, patience=PATIENCE if is_ours else 0.0)
        consent = Consent(removals=removes)
        plan, decision = examination.plan, examination.decision(consent)
        # A user without permission to declare objects does not need the HTTP API.
        uncompared = [] if examination.live is None else list(plan.uncompared)
        for line in (*uncompared, *plan.warnings):
            say(line, "warning")
        is_restricted = threading.Event()
        created: list[Change] = []

        def did(change: Change) -> None:
            if is_start and change.mark is Mark.CREATE:
                created.append(change)  # a start often creates all objects, so lines about created objects are omitted
            else:
                say(f"topology: {change_line(change)}", "info")

        try:
            left = reconcile(
                examination, decision, lambda line: say(f"topology: {line}", "info"), did, is_restricted.set
            )
        except RunnerError:
            self._report_uncompared(examination)
            for change in created:
                say(f"topology: {change_line(change)}; done before the failure", "info")
            raise
        if is_restricted.is_set():
            say(
                "topology: not compared, because this user has only the permissions that services need",
                "info",
            )
        else:
            self._report_uncompared(examination)
        self._report_left(examination, left, is_start=is_start)
        return decision, [
            f"{examination.place_of(one.change.thing)}: {one.change.kind} {one.change.name!r}: {one.change.why};"
            f" {one.needs}"
            for one in left
            if one.change.mark is Mark.REPLACE and not one.waits_for
        ]

    def _report_uncompared(self, examination: Comparison) -> None:
        if examination.live is None:
            for line in examination.plan.uncompared:
                self._say(line, "warning")

    def _report_left(self, examination: Comparison, left: list[Left], *, is_start: bool) -> None:
        from runner.topology.consent import REPLACED_SERVICES
        from runner.topology.plan import Mark, change_line

        lines: list[tuple[str, bool, str]] = []
        for one in left:
            if one.waits_for == REPLACED_SERVICES:
                continue  # done as soon as the services have been replaced
            line = f"topology: {change_line(one.change)}; {one.needs}"
            # Preparation may run several times, but prints each line only once.
            if not one.is_implied and (one.waits_for or one.change.mark in (Mark.RETIRE, Mark.RENAME)):
                level = "warning" if one.change.mark is Mark.RENAME else "info"
                lines.append((line, bool(one.waits_for) and not is_start, level))
        if surplus := examination.plan.surplus:
            lines.append((f"topology: {surplus}", False, "warning" if examination.plan.fills_up else "info"))
        for line, is_always_printed, level in lines:
            if is_always_printed or line not in self._printed:
                self._printed.add(line)
                self._say(line, level)
