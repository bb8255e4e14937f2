"""The spec of one service, as its worker gets it: here and not with the worker, which needs no models of YAML."""

from __future__ import annotations

from pathlib import Path

from runner.config.project import Project
from runner.config.settings import Service, event_type
from runner.messages import ATTEMPTS, EVENTS
from runner.topology.model import Objects
from runner.topology.timeouts import shortest_timeouts
from runner.worker.spec import WorkerSpec


def spec_of(
    project: Project, objects: Objects, service: str, log_format: str = "text", log_level: str = "info"
) -> WorkerSpec:
    """The spec of one service of a project."""
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
        ladders={queue: objects.ladders[queue] for queue in settings.consumes if queue in objects.ladders},
        prefetch=settings.prefetch,
        concurrency=settings.concurrency,
        options=settings.options,
        store=project.store_of(service),
        inbox=None if settings.inbox is None else settings.inbox.keep,
        trace=_trace(project, settings),
        max_crashes=settings.max_crashes,
        # A service that only consumes does not ask, and is not replaced because another service came or went.
        history=project.history_store if not settings.consumes and project.recorders(EVENTS) else "",
        statuses=project.statuses if service in {*project.recorders(EVENTS), *project.recorders(ATTEMPTS)} else None,
        handler_timeout=settings.handler_timeout,
        start_timeout=settings.start_timeout,
        stop_timeout=settings.stop_timeout,
        faults=project.config.faults,
        log_format=log_format,
        log_level=log_level,
        quiet_queue=project.attempts_queue or "",
        consumer_timeouts=shortest_timeouts(settings.consumes, objects, project.config.services),
        # Without an inbox nothing depends on it, so that the service runs on when the line goes.
        formerly={
            queue: objects.formerly[queue]
            for queue in settings.consumes
            if queue in objects.formerly and settings.inbox is not None
        },
    )


def _trace(project: Project, settings: Service) -> str:
    # Reports about the service that records the reports would never end.
    queue = project.attempts_queue
    return queue if queue is not None and settings.consumes and queue not in settings.consumes else ""
