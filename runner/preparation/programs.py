"""The conversion of a project's services to programs for the supervisor, each with the spec of its workers."""

from __future__ import annotations

import os
import pwd
import resource
import sys
from dataclasses import replace
from pathlib import Path

from runner.address import Address
from runner.broker.find import Container, PrivateNode
from runner.config.config_file import ServiceSettings, event_type
from runner.config.project import CONFIG_FILE, Project, choose_services
from runner.errors import ConfigError
from runner.messages import ATTEMPTS, EVENTS
from runner.plugins import revision_of
from runner.preparation.preparation_client import PreparationRequest
from runner.preparation.topology_sync import FoundBroker
from runner.supervisor.autoscale import Autoscale
from runner.supervisor.program import SLOT, Endpoint, Limits, Program, Restart, RestartLimit, RestartPolicy
from runner.topology.model import Objects
from runner.topology.plan import Decision
from runner.topology.timeouts import shortest_timeouts
from runner.worker.spec import WorkerSpec

#: The restart policy of a private broker, which starts slowly and stops after the services.
BROKER_POLICY = RestartPolicy(start_timeout=90.0, stop_timeout=3.5)


def programs_of(project: Project, objects: Objects, order: PreparationRequest) -> list[Program]:
    """Return the programs of the named services, or of all services.

    Raises ConfigError if this user lacks permission to run a service as configured.
    """
    chosen = choose_services(project.config, order.services)
    faults = [fault for name in chosen for fault in _rights_faults(project, name, project.config.services[name])]
    if faults:
        raise ConfigError(faults)
    return [_program(project, objects, name, order) for name in chosen]


def held_back(project: Project, service: str, decision: Decision) -> str:
    """Return a text that names the held-back object that a service uses, or an empty text if it uses none.

    The object is a held-back queue that the service consumes, or an exchange that is held back or lacks a route.
    """
    settings = project.config.services[service]
    audit_queue = project.attempts_queue
    queues = [*settings.consumes, *([audit_queue] if audit_queue and settings.consumes else [])]
    for name in queues:
        if ("queue", name) in decision.held:
            return f"queue {name!r}"
    for name in settings.publishes:
        if ("exchange", name) in decision.held or name in decision.open_routes:
            return f"exchange {name!r}"
    return ""


def as_before(program: Program, before: Program) -> Program:
    """Return ``before`` with the supervision settings of ``program``, so that the process is kept."""
    return replace(
        before,
        policy=replace(program.policy, watchdog=before.policy.watchdog),
        instances=program.instances,
        autoscale=program.autoscale,
        depends_on=program.depends_on,
    )


def broker_program(broker: FoundBroker) -> list[Program]:
    """Return a list with the program of a private broker, or an empty list for any other broker."""
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
    """Return the restart policy for the instances of a service."""
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
            faults.append(fault("user", f"no such user, {service.user!r}; allowed: a user of this machine"))
        else:
            if is_other and os.geteuid() != 0:
                text = f"only root can run a service as {service.user!r}; remove user, or run the supervisor as root"
                faults.append(fault("user", text))
    if service.nice < 0 and os.geteuid() != 0:
        faults.append(fault("nice", f"only root can raise a priority, {service.nice}; allowed: 0 to 19"))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_limited = hard != resource.RLIM_INFINITY and os.geteuid() != 0
    if is_limited and service.open_files is not None and service.open_files > hard:
        text = f"more than this user's limit, {service.open_files}; allowed: up to {hard} (ulimit -Hn)"
        faults.append(fault("open_files", text))
    return faults


def spec_of(project: Project, objects: Objects, service: str, log_format: str, log_level: str) -> WorkerSpec:
    """Return the spec that the workers of a service read when they start."""
    settings = project.config.services[service]
    return WorkerSpec(
        service=service,
        plugin=settings.plugin or service,
        folder=str(Path(project.folder).resolve()),
        urls=project.config.broker.url,
        consumes=tuple(settings.consumes),
        publishes={
            event_type(template): (exchange, template)
            for exchange, templates in settings.publishes.items()
            for template in templates
        },
        retry_delays={
            queue: objects.retry_delays[queue] for queue in settings.consumes if queue in objects.retry_delays
        },
        prefetch=settings.prefetch,
        concurrency=settings.concurrency,
        options=settings.options,
        store=project.store_of(service),
        inbox=None if settings.inbox is None else settings.inbox.retention,
        trace=_trace(project, settings),
        max_crashes=settings.max_crashes,
        # A consuming service does not read the history, and must not be replaced when the history service changes.
        history=project.history_store if not settings.consumes and project.recorders(EVENTS) else "",
        statuses=project.statuses if service in {*project.recorders(EVENTS), *project.recorders(ATTEMPTS)} else None,
        handler_timeout=settings.handler_timeout,
        start_timeout=settings.start_timeout,
        stop_timeout=settings.stop_timeout,
        faults=project.config.fault_injection,
        log_format=log_format,
        log_level=log_level,
        quiet_queue=project.attempts_queue or "",
        consumer_timeouts=shortest_timeouts(settings.consumes, objects, project.config.services),
        # Only an inbox needs the previous queue names. Services without an inbox keep running when a previous name is
        # removed.
        formerly={
            queue: objects.formerly[queue]
            for queue in settings.consumes
            if queue in objects.formerly and settings.inbox is not None
        },
    )


def _trace(project: Project, settings: ServiceSettings) -> str:
    # A report about an attempt of the recording service itself would cause an endless series of reports.
    queue = project.attempts_queue
    return queue if queue is not None and settings.consumes and queue not in settings.consumes else ""
