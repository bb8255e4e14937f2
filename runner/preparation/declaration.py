"""Keep the topology on the broker what the files say, and tell of it."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.broker.find import Answering, Container, PrivateNode
from runner.config.project import Project
from runner.errors import BrokerAway, DeclarationRefused

if TYPE_CHECKING:
    from runner.amqp.depth import Depths

#: What the services will use: a broker that is there, one that is started, or one that may come.
FoundBroker = Answering | PrivateNode | Container | BrokerAway
#: Seconds that a broker of ours may take to listen for HTTP after it answers AMQP.
PATIENCE = 5.0


def import_reconcile() -> None:
    """Import what ``Declaration`` needs once the broker answers: AMQP and HTTP take their time."""
    importlib.import_module("runner.reconcile")


class Declaration:
    """The project as it runs; ``prepare`` is what its services wait for."""

    def __init__(self, project: Project, broker: FoundBroker, say: Callable[[str, str], None], told: set[str]) -> None:
        #: The project of the moment.
        self.project = project
        # What is prepared for one project must not undo what is taken over from the next.
        self._lock = threading.Lock()
        self._broker, self._say = broker, say
        #: Lines of what stays as it is, which are said once.
        self._told = told
        self._depths: dict[tuple[str, ...], Depths] = {}

    def prepare(self) -> None:
        """Do the safe part of the plan.

        Raises BrokerError when the broker is away, DeclarationRefused where something would have to be replaced.
        """
        with self._lock:
            lines = self._reconcile(self.project, show_created=False)
        if lines and isinstance(self._broker, PrivateNode | Container):
            lines.append("this broker is the project's own: 'make reset' starts it afresh, without any of its messages")
        if lines:
            raise DeclarationRefused("\n".join(lines))

    def take_over(self, project: Project) -> list[str]:
        """Do the safe part of another project's plan; returns a line for each thing that would have to be replaced.

        Raises BrokerError, and DeclarationRefused where the broker refuses it; the project then stays what it was.
        """
        with self._lock:
            lines = self._reconcile(project, show_created=True)
            self.project = project
            return lines

    def ready_messages(self, service: str) -> int:
        """The messages that wait in a service's queues. Raises BrokerError where the broker does not tell."""
        # Here, because only a service with autoscale asks.
        from runner.amqp.depth import Depths

        config = self.project.config
        urls = config.broker.url
        if urls not in self._depths:
            self._depths[urls] = Depths(urls, "runner autoscale")
        return self._depths[urls].ready(config.services[service].consumes)

    def _reconcile(self, project: Project, *, show_created: bool) -> list[str]:
        # Here and not above: pika takes its time to import, and is not needed before the broker answers.
        from runner.reconcile import bring, examine, known_management
        from runner.topology.apply import Consent, in_place
        from runner.topology.change import Mark, change_line

        say, is_ours = self._say, isinstance(self._broker, PrivateNode | Container)
        url = self._broker.management_url if isinstance(self._broker, PrivateNode | Container) else None
        examination = examine(project, url or known_management(project), patience=PATIENCE if is_ours else 0.0)
        plan = examination.plan
        for line in (*plan.uncompared, *plan.warnings):
            say(line, "warning")
        left = bring(examination, Consent(), lambda line: say(f"topology: {line}", "info"))
        shown = plan.of(Mark.CREATE) if show_created else ()
        for change in (*shown, *in_place(plan, Consent(), examination.objects)):
            say(f"topology: {change_line(change)}", "info")
        for change, needs in left:
            if change.mark is Mark.RETIRE:
                say(f"topology: {change_line(change)}; {needs}", "info")
        for change in plan.of(Mark.UNMANAGED):
            line = f"topology: {change_line(change)}"
            if change.why and line not in self._told:  # what was ours, and still takes messages
                self._told.add(line)
                say(line, "info")
        return [
            f"{examination.place_of(change.thing)}: {change.kind} {change.name!r}: {change.why}; {needs}"
            for change, needs in left
            if change.mark is Mark.REPLACE
        ]
