"""The services of a project as programs for the supervisor."""

from __future__ import annotations

import os
import pwd
import resource
import sys
from dataclasses import replace

from runner.address import Address
from runner.broker.find import Container, PrivateNode
from runner.config.config_file import ServiceSettings
from runner.config.project import CONFIG_FILE, Project, choose_services
from runner.errors import ConfigError
from runner.plugins import revision_of
from runner.preparation.service_spec import spec_of
from runner.preparation.supervisor_side import PreparationRequest
from runner.preparation.topology_sync import FoundBroker
from runner.supervisor.autoscale import Autoscale
from runner.supervisor.program import SLOT, Endpoint, Limits, Program
from runner.supervisor.restart_settings import Restart, RestartLimit, RestartPolicy
from runner.topology.decision import Decision
from runner.topology.model import Objects

#: The broker may take its time to start; it stops after the services.
BROKER_POLICY = RestartPolicy(start_timeout=90.0, stop_timeout=3.5)


def programs_of(project: Project, objects: Objects, order: PreparationRequest) -> list[Program]:
    """The programs of the services that are named, or of all. Raises ConfigError for what this user may not do."""
    chosen = choose_services(project.config, order.services)
    faults = [fault for name in chosen for fault in _rights_faults(project, name, project.config.services[name])]
    if faults:
        raise ConfigError(faults)
    return [_program(project, objects, name, order) for name in chosen]


def held_back(project: Project, service: str, decision: Decision) -> str:
    """Return the held-back object that a service uses, for people; empty for none.

    It is a queue that the service consumes, or an exchange that is held back or lacks a route.
    """
    settings = project.config.services[service]
    trace = project.attempts_queue
    queues = [*settings.consumes, *([trace] if trace and settings.consumes else [])]
    for name in queues:
        if ("queue", name) in decision.held:
            return f"queue {name!r}"
    for name in settings.publishes:
        if ("exchange", name) in decision.held or name in decision.open_routes:
            return f"exchange {name!r}"
    return ""


def as_before(program: Program, before: Program) -> Program:
    """Return a program with the process of ``before`` and the supervision settings of ``program``."""
    return replace(
        before,
        policy=replace(program.policy, watchdog=before.policy.watchdog),
        instances=program.instances,
        autoscale=program.autoscale,
        depends_on=program.depends_on,
    )


def broker_program(broker: FoundBroker) -> list[Program]:
    """The program of a broker of our own, if it is one."""
    if not isinstance(broker, PrivateNode | Container):
        return []
    return [
        Program(
            "broker",
            tuple(broker.command),
            environment=broker.environment,
            policy=BROKER_POLICY,
            endpoint=Endpoint(Address.of(broker.url).port, broker.management_url),
            after_prepare=False,
        )
    ]


def _program(project: Project, objects: Objects, name: str, order: PreparationRequest) -> Program:
    service = project.config.services[name]
    scale = None if service.autoscale is None else Autoscale(**service.autoscale.model_dump())
    return Program(
        service=name,
        command=(sys.executable, "-m", "runner.worker", SLOT),
        stdin=spec_of(project, objects, name, order.log_format, order.log_level).to_json(),
        environment=service.env,
        policy=restart_policy_of(service),
        limits=Limits(service.memory_max, service.nice, service.open_files, service.user),
        instances=service.instances if scale is None else min(max(service.instances, scale.min), scale.max),
        autoscale=scale,
        depends_on=tuple(service.depends_on),
        revision=revision_of(service.plugin or name, project.folder),
    )


def restart_policy_of(service: ServiceSettings) -> RestartPolicy:
    """Return how the supervisor keeps an instance of a service."""
    return RestartPolicy(
        restart=Restart(service.restart),
        backoff=service.backoff.backoff(),
        reset_after=service.backoff.reset_after,
        restart_limit=RestartLimit(**service.restart_limit.model_dump()),
        start_timeout=service.start_timeout,
        stop_timeout=service.stop_timeout,
        watchdog=service.watchdog,
    )


def _rights_faults(project: Project, name: str, service: ServiceSettings) -> list[str]:
    def fault(key: str, problem: str) -> str:
        line = project.config_document.line(("services", name, key))
        return f"{CONFIG_FILE}:{line}: services.{name}.{key}: {problem}"

    faults = []
    if service.user is not None:
        try:
            is_other = pwd.getpwnam(service.user).pw_uid != os.geteuid()
        except KeyError:
            faults.append(fault("user", f"no such user, {service.user!r}; name one of this machine's"))
        else:
            if is_other and os.geteuid() != 0:
                faults.append(fault("user", f"only root may run it as {service.user!r}; remove it, or run as root"))
    if service.nice < 0 and os.geteuid() != 0:
        faults.append(fault("nice", f"only root may raise a priority, {service.nice}; allowed: 0 to 19"))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_limited = hard != resource.RLIM_INFINITY and os.geteuid() != 0
    if is_limited and service.open_files is not None and service.open_files > hard:
        text = f"more than this user may have, {service.open_files}; allowed: up to {hard} (ulimit -Hn)"
        faults.append(fault("open_files", text))
    return faults
