"""The tasks of the preparation process: check the files, find the broker, declare the topology, reload the files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.address import Address
from runner.broker.find import Answering, PrivateNode, find_broker
from runner.config.project import CONFIG_FILE, Project
from runner.errors import BrokerUnreachable, RunnerError
from runner.faults.active import FaultFolder
from runner.inspection.checked_project import checked_project
from runner.inspection.inspector import Inspector
from runner.invocation import invocation
from runner.preparation.applied_files import keep_applied
from runner.preparation.preparation_client import PreparationRequest, PreparedPrograms, PreparedSystem, SupervisionPlan
from runner.preparation.programs import as_before, broker_program, held_back, programs_of
from runner.preparation.topology_sync import FoundBroker, Held, TopologySync, import_reconcile
from runner.supervisor.program import Program
from runner.topology.compile import compile_topology
from runner.topology.consent import REPLACED_SERVICES
from runner.topology.finding import finding_lines
from runner.topology.lint_rules import findings_of
from runner.topology.model import Objects
from runner.topology.plan import Decision


@dataclass(frozen=True)
class Memory:
    """The state that one preparation process passes to the next."""

    project: Project
    broker: FoundBroker | None
    #: The printed lines about the topology, which a reload must not print again.
    printed: frozenset[str]
    #: The running programs, by service.
    programs: Mapping[str, Program]
    #: The objects that were held back when the running programs started.
    held: Held
    #: True if removals from the broker are postponed until the services have been replaced.
    is_unfinished: bool
    #: The printed findings, each as code, name and reason. Line numbers are omitted, because every edit changes line
    #: numbers.
    findings: frozenset[tuple[str, str, str]]


class Preparer:
    """The tasks of the preparation process, which run one at a time.

    ``say`` prints a line for the user at a log level.
    """

    def __init__(
        self,
        order: PreparationRequest,
        say: Callable[[str, str], None],
        memory: Memory | None = None,
        inspector: Inspector | None = None,
    ) -> None:
        """``inspector`` is a running inspector, which ``begin`` uses."""
        self._order, self._say, self._inspector = order, say, inspector
        self._folder = Path(order.folder)
        self._declaration: TopologySync | None = None
        self._project: Project | None = None
        self._printed: set[str] = set()
        self._broker: FoundBroker | None = None
        self._running: dict[str, Program] = {}
        self._held: Held = frozenset()
        self._is_unfinished = False
        self._findings: frozenset[tuple[str, str, str]] = frozenset()
        if memory is not None:
            self._project, self._broker, self._printed = memory.project, memory.broker, set(memory.printed)
            self._running, self._held, self._is_unfinished = dict(memory.programs), memory.held, memory.is_unfinished
            self._findings = memory.findings

    @property
    def memory(self) -> Memory | None:
        """The state to pass to the next preparation process, or None before ``begin``."""
        if self._project is None:
            return None
        return Memory(
            self._project,
            self._broker,
            frozenset(self._printed),
            self._running,
            self._held,
            self._is_unfinished,
            self._findings,
        )

    @property
    def project(self) -> Project:
        """The project whose services are running."""
        assert self._project is not None  # noqa: S101 - for the type checker: begin() came first
        return self._project

    def begin(self) -> SupervisionPlan:
        """Read and check all files and plugins. Raises ConfigError with all errors."""
        inspector, self._inspector = self._inspector, None
        self._project, objects = checked_project(self._folder, inspector, import_reconcile)
        runner = self.project.config.runner
        logs = None if runner.logs is None else (runner.logs.max_size, runner.logs.keep)
        programs = self._programs(self.project, objects)
        self._running = {one.service: one for one in programs}
        keep_applied(self.project)
        return SupervisionPlan(programs, runner.on_fatal == "exit", logs)

    def find(self) -> PreparedSystem:
        """Find a running broker, or choose a broker to start.

        Raises RunnerError if no broker can be used until the user intervenes.
        """
        settings = self.project.config.broker
        try:
            self._broker = find_broker(settings.url, settings.autostart, self.project.var / "broker")
        except BrokerUnreachable as error:
            self._broker = error  # the services wait, because the broker may become reachable later
        has_faults = self.project.config.fault_injection
        # The parent process is the supervisor, which has already locked the folder.
        FaultFolder(self.project.var).begin(os.getppid() if has_faults else None)
        warnings = self._new_findings(self.project)
        if has_faults:
            danger = "all users with write access to var/ can inject faults"
            warnings = [*warnings, f"fault_injection: true: {danger}; see: {invocation('fault', '--help')}"]
        return PreparedSystem(broker_program(self._broker), self._broker_words(self._broker), warnings)

    def prepare(self) -> PreparedPrograms | None:
        """Declare the topology. Raises BrokerError or DeclarationRefused.

        Returns the programs to run, or None if the same objects are held back as before.
        """
        decision = self._declared().prepare(self._held, removes=not self._is_unfinished)
        if decision.held == self._held:
            return None
        objects = compile_topology(self.project.topology, self.project.consumed)
        return PreparedPrograms(
            self._fitting(self._programs(self.project, objects), self.project, decision), [], self._is_unfinished
        )

    def finish(self) -> PreparedPrograms | None:
        """Run ``prepare``, and remove the objects that only the replaced processes needed.

        If a removal fails, the next ``prepare`` tries again.
        """
        self._is_unfinished = False
        return self.prepare()

    def reload(self) -> PreparedPrograms:
        """Apply the changed files. If this method raises RunnerError, no service has changed."""
        project, objects = checked_project(self._folder)
        for part in ("broker", "runner", "fault_injection"):
            if getattr(project.config, part) != getattr(self.project.config, part):
                number = project.config_document.line((part,))
                raise RunnerError(
                    f"{CONFIG_FILE}:{number}: {part}: changed, but a reload cannot apply this change;"
                    " restart the supervisor"
                )
        programs = self._programs(project, objects)
        decision, left = self._declared().reload(project)
        for line in self._new_findings(project):
            self._say(line, "warning")
        self._project = project
        keep_applied(project)
        self._is_unfinished = any(one.waits_for == REPLACED_SERVICES for one in decision.left)
        return PreparedPrograms(self._fitting(programs, project, decision), left, self._is_unfinished)

    def _new_findings(self, project: Project) -> list[str]:
        """Return lines about the findings that the previous start or reload did not print."""
        found = {(one.code, one.name, one.reason): one for one in findings_of(project)}
        new = [one for about, one in found.items() if about not in self._findings]
        self._findings = frozenset(found)
        return finding_lines(new, project)

    def ready_messages(self, service: str) -> int:
        """Return the number of ready messages in a service's queues. Raises BrokerError."""
        if service not in self.project.config.services:
            raise RunnerError(f"service {service!r} no longer exists")
        return self._declared().ready_messages(service)

    def _declared(self) -> TopologySync:
        if self._declaration is None:
            assert self._broker is not None  # noqa: S101 - for the type checker: find() came first
            self._declaration = TopologySync(self.project, self._broker, self._say, self._printed)
        return self._declaration

    def _programs(self, project: Project, objects: Objects) -> list[Program]:
        return programs_of(project, objects, self._order)

    def _fitting(self, programs: list[Program], project: Project, decision: Decision) -> list[Program]:
        """Return the programs that can run.

        A program that uses a held-back object keeps its running process, or is not started.
        """
        fitting = []
        for program in programs:
            needs = held_back(project, program.service, decision)
            before = self._running.get(program.service)
            reason = f"because it uses the held-back {needs}; for details, run: {invocation('plan')}"
            if not needs:
                fitting.append(program)
            elif before is None:
                self._say(f"{program.service} is not started yet, {reason}", "warning")
            else:
                if not program.is_same_process(before):
                    self._say(f"{program.service} keeps running unchanged, {reason}", "warning")
                fitting.append(as_before(program, before))
        self._running = {one.service: one for one in fitting}
        self._held = decision.held
        return fitting

    def _broker_words(self, broker: FoundBroker) -> str:
        if isinstance(broker, BrokerUnreachable):
            return str(broker)
        if isinstance(broker, Answering):
            return f"using the running RabbitMQ on {Address.of(broker.url)}"
        how = "a private RabbitMQ" if isinstance(broker, PrivateNode) else "RabbitMQ in a container"
        where = self.project.var / "broker"
        return f"no broker answers; starting {how} on {Address.of(broker.url)}, with its data in {where}"
