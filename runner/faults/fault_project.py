"""What all commands ``fault`` need: a project in which faults may be injected, its runner, and their options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from runner.config.config_file import ServiceSettings
from runner.config.error_detail import unknown
from runner.config.project import CONFIG_FILE, Project, load_project
from runner.config.value import parse_duration
from runner.errors import ConfigError, RunnerError
from runner.faults.active import FaultFolder
from runner.inspection.checked_project import with_recorders
from runner.invocation import invocation
from runner.messages import EVENTS
from runner.supervisor.control.client import ask
from runner.topology.compile import compile_topology
from runner.topology.model import Objects

#: Seconds; a fault that somebody forgets is over by then.
LONGEST = 3600.0
#: Seconds for the runner to answer.
PATIENCE = 10.0
#: What a process may be at that is ended or stopped, the likeliest first.
_ALIVE = ("RUNNING", "STARTING")
OFF = f"{CONFIG_FILE}: faults: is not true, so that nothing is broken here; add the line faults: true, and start again"


@dataclass(frozen=True)
class FaultProject:
    """The project, and what runs of it."""

    folder: Path
    project: Project

    @classmethod
    def of(cls, folder: Path) -> FaultProject:
        """The lab of a folder. Raises ConfigError where faults may not be injected there."""
        project = load_project(folder)
        if not project.config.faults:
            raise ConfigError([OFF])
        return cls(folder, project)

    @property
    def faults(self) -> FaultFolder:
        """Those that last."""
        return FaultFolder(self.project.var)

    @cached_property
    def objects(self) -> Objects:
        """What topology.yaml comes to."""
        return compile_topology(self.project.topology, self.project.consumed)

    @cached_property
    def status(self) -> dict[str, Any]:
        """How the runner's services stand. Raises NoRunner, and RunnerError for one that started without faults."""
        (found,) = ask(self.folder, "status", patience=PATIENCE)
        if not self.faults.is_on(int(found["runner"]["pid"])):
            raise RunnerError(
                f"{self.folder.resolve()}: the runner here was started without faults: true;"
                f" start it again after: {invocation('down')}"
            )
        return found

    def service(self, name: str) -> ServiceSettings:
        """A service of the project that runs here. Raises click.BadParameter for an unknown one, and RunnerError."""
        services = self.project.config.services
        if name not in services:
            raise click.BadParameter(unknown("service", name, services), param_hint="SERVICE")
        if not self.status["services"].get(name):
            raise RunnerError(f"{name}: it has no instances here; give it one: {invocation('scale', name, '1')}")
        return services[name]

    def consumer(self, name: str) -> ServiceSettings:
        """The same of one that handles messages."""
        services = self.project.config.services
        if name in services and not services[name].consumes:
            others = sorted(one for one, service in services.items() if service.consumes)
            text = f"{name!r} consumes no queue, so that it handles no messages; allowed: {', '.join(others)}"
            raise click.BadParameter(text, param_hint="SERVICE")
        return self.service(name)

    def slot(self, target: str) -> tuple[str, str, int]:
        """The service, slot and pid of a process that runs: ``payment`` for any of it, ``payment.2`` for this one."""
        name, dot, _ = target.partition(".")
        self.service(name)
        own = [one for one in self.status["slots"] if one["service"] == name and one["role"] == "holder"]
        chosen = [one for one in own if not dot or one["slot"] == target]
        if not chosen:
            names = [one["slot"] for one in own]
            raise click.BadParameter(unknown("slot", target, names), param_hint="SERVICE")
        alive = [one for state in _ALIVE for one in chosen if one["pid"] is not None and one["state"] == state]
        if not alive:
            words = ", ".join(f"{one['slot']} is {one['state']}" for one in chosen)
            raise RunnerError(f"{target}: it has no process now, {words}; see: {invocation('status', name)}")
        return name, str(alive[0]["slot"]), int(alive[0]["pid"])

    def reader(self, queue: str) -> tuple[str, ServiceSettings]:
        """The service that reads a queue here. Raises click.BadParameter for a queue that no service reads."""
        readers = {
            one: name for name, service in sorted(self.project.config.services.items()) for one in service.consumes
        }
        if queue not in readers:
            text = unknown("queue", queue, readers)
            if any(one.name == queue for one in self.objects.queues):
                text = f"no service consumes {queue!r}, so that nobody would meet it; allowed: {', '.join(readers)}"
            raise click.BadParameter(text, param_hint="QUEUE")
        return readers[queue], self.service(readers[queue])

    def facts(self, name: str, service: ServiceSettings) -> dict[str, Any]:
        """What the texts of a fault ask about a service."""
        recorders = with_recorders(self.project).recorders(EVENTS)
        return {
            "service": name,
            "consumes": bool(service.consumes),
            "inbox": service.inbox is not None,
            "several": self.status["services"].get(name, 1) > 1,
            "max_crashes": service.max_crashes,
            "timed": bool(service.handler_timeout),
            "keeps": name in recorders,
            "audit": bool(recorders),
        }


class Period(click.ParamType):  # type: ignore[type-arg]  # older ones of click take no argument
    """A duration such as 500ms or 2s, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it, or fail with what is allowed."""
        if isinstance(value, float):
            return value
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.fail(f"{str(error).replace(';', f', {value!r};', 1)}", param, ctx)
        if not 0 < seconds <= LONGEST:
            self.fail(f"out of range, {value!r}; allowed: more than 0s, up to 1h", param, ctx)
        return seconds


PERIOD = Period()
as_json = click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")


def is_period(text: str) -> bool:
    """Whether this is a duration and not a service's name."""
    return re.match(r"\d", text) is not None
