"""The tasks: read and check the files, find the broker, declare the topology, take over what changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.address import Address
from runner.broker.find import Answering, PrivateNode, find_broker
from runner.config.project import CONFIG_FILE, Project
from runner.errors import BrokerAway, RunnerError
from runner.faults.active import FaultFolder
from runner.inspection.checked_project import checked_project
from runner.inspection.inspector import Inspector
from runner.invocation import invocation
from runner.preparation.preparation_client import Begun, PreparationRequest, PreparedSystem, Taken
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
    """What one such process leaves to the next."""

    project: Project
    broker: FoundBroker | None
    #: What was said of the topology already, and is not to be said at each reload.
    told: frozenset[str]
    #: The running programs, by service.
    programs: Mapping[str, Program]
    #: The held-back objects with which they run.
    held: Held
    #: Whether removals wait until the services are replaced.
    keeps: bool
    #: The findings that were printed already: code, name and reason of each, since lines move with every edit.
    findings: frozenset[tuple[str, str, str]]


class Preparer:
    """Does what it is told to, one thing after the other; ``say`` gets what people should know of it."""

    def __init__(
        self,
        order: PreparationRequest,
        say: Callable[[str, str], None],
        memory: Memory | None = None,
        inspector: Inspector | None = None,
    ) -> None:
        """``inspector`` is for ``begin``, where one has been started already."""
        self._order, self._say, self._inspector = order, say, inspector
        self._folder = Path(order.folder)
        self._declaration: TopologySync | None = None
        self._project: Project | None = None
        self._told: set[str] = set()
        self._broker: FoundBroker | None = None
        self._running: dict[str, Program] = {}
        self._held: Held = frozenset()
        self._keeps = False
        self._findings: frozenset[tuple[str, str, str]] = frozenset()
        if memory is not None:
            self._project, self._broker, self._told = memory.project, memory.broker, set(memory.told)
            self._running, self._held, self._keeps = dict(memory.programs), memory.held, memory.keeps
            self._findings = memory.findings

    @property
    def memory(self) -> Memory | None:
        """What the next process must know; None before there is anything."""
        if self._project is None:
            return None
        told = frozenset(self._told)
        return Memory(self._project, self._broker, told, self._running, self._held, self._keeps, self._findings)

    @property
    def project(self) -> Project:
        """The project as it runs."""
        assert self._project is not None  # noqa: S101 - for the type checker: begin() came first
        return self._project

    def begin(self) -> Begun:
        """Read and check everything. Raises ConfigError with every fault."""
        inspector, self._inspector = self._inspector, None
        self._project, objects = checked_project(self._folder, inspector, import_reconcile)
        runner = self.project.config.runner
        logs = None if runner.logs is None else (runner.logs.max_size, runner.logs.keep)
        programs = self._programs(self.project, objects)
        self._running = {one.service: one for one in programs}
        return Begun(programs, runner.on_fatal == "exit", logs)

    def find(self) -> PreparedSystem:
        """Find the broker, or what to start as one. Raises RunnerError where there is none and none may come."""
        settings = self.project.config.broker
        try:
            self._broker = find_broker(settings.url, settings.autostart, self.project.var / "broker")
        except BrokerAway as error:
            self._broker = error  # it may come yet: the services wait for it
        has_faults = self.project.config.fault_injection
        # The supervisor has the folder by now, and is who started this process.
        FaultFolder(self.project.var).begin(os.getppid() if has_faults else None)
        warnings = self._new_findings(self.project)
        if has_faults:
            how = invocation("fault", "--help")
            warnings = [*warnings, f"fault_injection: true: users who may write in var/ can break things here: {how}"]
        return PreparedSystem(broker_program(self._broker), self._broker_words(self._broker), warnings)

    def prepare(self) -> Taken | None:
        """Declare the topology. Raises BrokerError or DeclarationRefused.

        Returns the programs to run if the held-back objects have changed, else None.
        """
        decision = self._declared().prepare(self._held, removes=not self._keeps)
        if decision.held == self._held:
            return None
        objects = compile_topology(self.project.topology, self.project.consumed)
        return Taken(self._fitting(self._programs(self.project, objects), self.project, decision), [], self._keeps)

    def finish(self) -> Taken | None:
        """Remove what ``take_over`` left, once no process of the services before it runs; otherwise as ``prepare``.

        Where it fails, the next ``prepare`` removes it.
        """
        self._keeps = False
        return self.prepare()

    def take_over(self) -> Taken:
        """Apply the changed files. If it raises RunnerError, no service has changed."""
        project, objects = checked_project(self._folder)
        for part in ("broker", "runner", "fault_injection"):
            if getattr(project.config, part) != getattr(self.project.config, part):
                number = project.config_document.line((part,))
                raise RunnerError(
                    f"{CONFIG_FILE}:{number}: {part}: is taken at the start; stop the runner and start it"
                )
        programs = self._programs(project, objects)
        decision, left = self._declared().take_over(project)
        for line in self._new_findings(project):
            self._say(line, "warning")
        self._project = project
        self._keeps = any(one.waits_for == REPLACED_SERVICES for one in decision.left)
        return Taken(self._fitting(programs, project, decision), left, self._keeps)

    def _new_findings(self, project: Project) -> list[str]:
        """Return lines about the findings that were not there at the last start or reload."""
        found = {(one.code, one.name, one.reason): one for one in findings_of(project)}
        new = [one for about, one in found.items() if about not in self._findings]
        self._findings = frozenset(found)
        return finding_lines(new, project)

    def ready_messages(self, service: str) -> int:
        """The messages that wait in a service's queues. Raises BrokerError."""
        if service not in self.project.config.services:
            raise RunnerError(f"no service {service!r} any more")
        return self._declared().ready_messages(service)

    def _declared(self) -> TopologySync:
        if self._declaration is None:
            assert self._broker is not None  # noqa: S101 - for the type checker: find() came first
            self._declaration = TopologySync(self.project, self._broker, self._say, self._told)
        return self._declaration

    def _programs(self, project: Project, objects: Objects) -> list[Program]:
        return programs_of(project, objects, self._order)

    def _fitting(self, programs: list[Program], project: Project, decision: Decision) -> list[Program]:
        """Return the programs that can run; those that use a held-back object keep their process, or do not start."""
        fitting, remedy = [], f"which is held back; see: {invocation('plan')}"
        for program in programs:
            needs = held_back(project, program.service, decision)
            before = self._running.get(program.service)
            if not needs:
                fitting.append(program)
            elif before is None:
                self._say(f"{program.service} is not started yet: it uses {needs}, {remedy}", "warning")
            else:
                if not program.is_same_process(before):
                    self._say(f"{program.service} runs on as it was: it uses {needs}, {remedy}", "warning")
                fitting.append(as_before(program, before))
        self._running = {one.service: one for one in fitting}
        self._held = decision.held
        return fitting

    def _broker_words(self, broker: FoundBroker) -> str:
        if isinstance(broker, BrokerAway):
            return str(broker)
        if isinstance(broker, Answering):
            return f"using the RabbitMQ that answers on {Address.of(broker.url)}"
        how = "a private RabbitMQ" if isinstance(broker, PrivateNode) else "RabbitMQ in a container"
        where = self.project.var / "broker"
        return f"no broker answers: starting {how} on {Address.of(broker.url)}, its data in {where}"
