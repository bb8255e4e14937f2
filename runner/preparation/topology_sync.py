"""Keep the topology on the broker what the files say, and tell of it."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.broker.find import Answering, Container, PrivateNode, known_management
from runner.config.project import Project
from runner.errors import BrokerAway, DeclarationRefused, RunnerError
from runner.invocation import reset_invocation

if TYPE_CHECKING:
    from runner.admin.ready_counter import ReadyCounter
    from runner.admin.reconciliation import Comparison
    from runner.topology.plan import Change, Decision, Left

#: What the services will use: a broker that is there, one that is started, or one that may come.
FoundBroker = Answering | PrivateNode | Container | BrokerAway
#: Exchanges and queues that are held back, each as its kind and name.
Held = frozenset[tuple[str, str]]
#: Seconds that a broker of ours may take to listen for HTTP after it answers AMQP.
PATIENCE = 5.0


def import_reconcile() -> None:
    """Import what ``TopologySync`` needs once the broker answers: AMQP and HTTP take their time."""
    importlib.import_module("runner.admin.reconciliation")


class TopologySync:
    """The project as it runs; ``prepare`` is what its services wait for."""

    def __init__(self, project: Project, broker: FoundBroker, say: Callable[[str, str], None], told: set[str]) -> None:
        #: The project of the moment.
        self.project = project
        # What is prepared for one project must not undo what is taken over from the next.
        self._lock = threading.Lock()
        self._broker, self._say = broker, say
        #: Lines of what stays as it is, which are said once.
        self._told = told
        self._depths: dict[tuple[str, ...], ReadyCounter] = {}

    def prepare(self, accepted: Held = frozenset(), *, removes: bool = True) -> Decision:
        """Do the safe part of the plan; ``accepted`` are the held-back objects with which the services already run.

        If ``removes`` is false, bindings and policies that are gone from topology.yaml stay on the broker. Raises
        BrokerError if the broker is unreachable, DeclarationRefused if another object has to be replaced.
        """
        with self._lock:
            decision, lines = self._reconcile(self.project, is_start=True, removes=removes)
        if decision.held <= accepted:
            return decision
        if lines and isinstance(self._broker, PrivateNode | Container):
            command = reset_invocation(self.project.folder)
            lines.append(f"this broker is the project's own; to start it without any of its messages: {command}")
        if lines:
            raise DeclarationRefused("\n".join(lines))
        return decision

    def take_over(self, project: Project) -> tuple[Decision, list[str]]:
        """Do the safe part of another project's plan; also return a line for each object that has to be replaced.

        Nothing is removed: the services still publish by what the project before it says.
        Raises BrokerError, and DeclarationRefused where the broker refuses it; the project then stays what it was.
        """
        with self._lock:
            result = self._reconcile(project, is_start=False, removes=False)
            self.project = project
            return result

    def ready_messages(self, service: str) -> int:
        """The messages that wait in a service's queues. Raises BrokerError where the broker does not tell."""
        # Here, because only a service with autoscale asks.
        from runner.admin.ready_counter import ReadyCounter

        config = self.project.config
        urls = config.broker.url
        if urls not in self._depths:
            self._depths[urls] = ReadyCounter(urls, "runner autoscale")
        return self._depths[urls].ready(config.services[service].consumes)

    def _reconcile(self, project: Project, *, is_start: bool, removes: bool) -> tuple[Decision, list[str]]:
        # Here and not above: pika takes its time to import, and is not needed before the broker answers.
        from runner.admin.reconciliation import compare, reconcile
        from runner.topology.consent import Consent
        from runner.topology.plan import Mark, change_line

        say, is_ours = self._say, isinstance(self._broker, PrivateNode | Container)
        url = self._broker.management_url if isinstance(self._broker, PrivateNode | Container) else None
        url = url or known_management(project.config.broker.url, project.var / "broker")
        examination = compare(project, url, patience=PATIENCE if is_ours else 0.0)
        consent = Consent(removals=removes)
        plan, decision = examination.plan, examination.decision(consent)
        # A user who may declare nothing needs nothing of what the missing HTTP API would do.
        uncompared = [] if examination.live is None else list(plan.uncompared)
        for line in (*uncompared, *plan.warnings):
            say(line, "warning")
        is_restricted = threading.Event()
        created: list[Change] = []

        def did(change: Change) -> None:
            if is_start and change.mark is Mark.CREATE:
                created.append(change)  # a start usually creates everything, which is no news
            else:
                say(f"topology: {change_line(change)}", "info")

        try:
            left = reconcile(
                examination, decision, lambda line: say(f"topology: {line}", "info"), did, is_restricted.set
            )
        except RunnerError:
            self._say_uncompared(examination)
            for change in created:
                say(f"topology: {change_line(change)}; done before it failed", "info")
            raise
        if is_restricted.is_set():
            say("topology: not compared: this user has the rights of services alone, and they need no more", "info")
        else:
            self._say_uncompared(examination)
        self._tell_left(examination, left, is_start=is_start)
        return decision, [
            f"{examination.place_of(one.change.thing)}: {one.change.kind} {one.change.name!r}: {one.change.why};"
            f" {one.needs}"
            for one in left
            if one.change.mark is Mark.REPLACE and not one.waits_for
        ]

    def _say_uncompared(self, examination: Comparison) -> None:
        if examination.live is None:
            for line in examination.plan.uncompared:
                self._say(line, "warning")

    def _tell_left(self, examination: Comparison, left: list[Left], *, is_start: bool) -> None:
        from runner.topology.consent import REPLACED_SERVICES
        from runner.topology.plan import Mark, change_line

        lines: list[tuple[str, bool, str]] = []
        for one in left:
            if one.waits_for == REPLACED_SERVICES:
                continue  # it is soon done
            line = f"topology: {change_line(one.change)}; {one.needs}"
            # A start is repeated, and prints each line once.
            if not one.is_implied and (one.waits_for or one.change.mark in (Mark.RETIRE, Mark.RENAME)):
                level = "warning" if one.change.mark is Mark.RENAME else "info"
                lines.append((line, bool(one.waits_for) and not is_start, level))
        if surplus := examination.plan.surplus:
            lines.append((f"topology: {surplus}", False, "warning" if examination.plan.fills_up else "info"))
        for line, is_always_said, level in lines:
            if is_always_said or line not in self._told:
                self._told.add(line)
                self._say(line, level)
