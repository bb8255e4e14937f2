"""The project and the option types of the ``fault`` commands."""

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

#: The maximum duration of a fault in seconds, which ends even a forgotten fault.
LONGEST = 3600.0
#: Seconds to wait for the supervisor's answer.
PATIENCE = 10.0
#: The states in which a process may be killed or paused, in order of preference.
_ALIVE = ("RUNNING", "STARTING")
OFF = f"{CONFIG_FILE}: fault_injection: not true; add the line 'fault_injection: true', and restart the supervisor"


@dataclass(frozen=True)
class FaultProject:
    """A project that permits fault injection, and the project's supervisor."""

    folder: Path
    project: Project

    @classmethod
    def of(cls, folder: Path) -> FaultProject:
        """Load the project in a folder. Raises ConfigError if the project's ``fault_injection`` is not true."""
        project = load_project(folder)
        if not project.config.fault_injection:
            raise ConfigError([OFF])
        return cls(folder, project)

    @property
    def faults(self) -> FaultFolder:
        """The folder with the active faults."""
        return FaultFolder(self.project.var)

    @cached_property
    def objects(self) -> Objects:
        """The compiled topology."""
        return compile_topology(self.project.topology, self.project.consumed)

    @cached_property
    def status(self) -> dict[str, Any]:
        """The supervisor's response to a ``status`` request.

        Raises NoRunner, and RunnerError if the supervisor was started without ``fault_injection: true``.
        """
        (found,) = ask(self.folder, "status", patience=PATIENCE)
        if not self.faults.is_on(int(found["runner"]["pid"])):
            raise RunnerError(
                f"{self.folder.resolve()}: the supervisor was started without 'fault_injection: true';"
                f" to restart the supervisor, first run: {invocation('down')}"
            )
        return found

    def service(self, name: str) -> ServiceSettings:
        """Return the settings of a service with instances.

        Raises click.BadParameter for an unknown service, and RunnerError for a service without instances.
        """
        services = self.project.config.services
        if name not in services:
            raise click.BadParameter(unknown("service", name, services), param_hint="SERVICE")
        if not self.status["services"].get(name):
            raise RunnerError(f"{name}: no instances; to start an instance: {invocation('scale', name, '1')}")
        return services[name]

    def consumer(self, name: str) -> ServiceSettings:
        """Return the settings of a service that consumes queues. Raises the errors of ``service``."""
        services = self.project.config.services
        if name in services and not services[name].consumes:
            others = sorted(one for one, service in services.items() if service.consumes)
            text = f"{name!r} consumes no queue and handles no messages; allowed: {', '.join(others)}"
            raise click.BadParameter(text, param_hint="SERVICE")
        return self.service(name)

    def slot(self, target: str) -> tuple[str, str, int]:
        """Return the service, the slot and the pid of a running process.

        ``target`` is a service, which selects any of its processes, or a slot such as ``payment.2``. Raises
        click.BadParameter for an unknown service or slot, and RunnerError if no process is running.
        """
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
            raise RunnerError(f"{target}: no process is running, {words}; see: {invocation('status', name)}")
        return name, str(alive[0]["slot"]), int(alive[0]["pid"])

    def consumer_of(self, queue: str) -> tuple[str, ServiceSettings]:
        """Return the service that consumes a queue. Raises click.BadParameter if no service consumes the queue."""
        consumers = {
            one: name for name, service in sorted(self.project.config.services.items()) for one in service.consumes
        }
        if queue not in consumers:
            text = unknown("queue", queue, consumers)
            if any(one.name == queue for one in self.objects.queues):
                text = f"no service consumes {queue!r}; allowed: {', '.join(consumers)}"
            raise click.BadParameter(text, param_hint="QUEUE")
        return consumers[queue], self.service(consumers[queue])

    def facts(self, name: str, service: ServiceSettings) -> dict[str, Any]:
        """Return the facts about a service for the texts in ``runner.faults.scenario``."""
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


class Period(click.ParamType):  # type: ignore[type-arg]  # older versions of click accept no type argument
    """An option type for durations such as 500ms or 2s, which are converted to seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the duration in seconds. Raises click.BadParameter for an invalid value."""
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
    """Return True if the text is a duration rather than the name of a service."""
    return re.match(r"\d", text) is not None
