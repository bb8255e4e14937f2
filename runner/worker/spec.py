"""All that a worker needs to know, handed to it on standard input as JSON.

The supervisor has checked it; a worker that is restarted never reads a file that is being edited.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner.config.keeping import AUDIT
from runner.config.project import Project
from runner.config.settings import Service, event_type
from runner.topology.model import Ladder, Objects

#: The plugins whose presence others ask about.
ASKED_FOR = frozenset({AUDIT})


@dataclass(frozen=True)
class WorkerSpec:
    """One service, as a worker runs it."""

    service: str
    plugin: str
    #: The project's folder, in which the plugin is found.
    folder: str
    urls: tuple[str, ...]
    consumes: tuple[str, ...]
    #: Event type: exchange and routing key template.
    publishes: Mapping[str, tuple[str, str]]
    #: Queue: where its failed messages go.
    ladders: Mapping[str, Ladder]
    prefetch: int
    concurrency: int
    options: Mapping[str, Any]
    #: Where its database is, should it need one; how many seconds a message is remembered, None without an inbox.
    store: str = "sqlite:///var/fastcommerce.db"
    inbox: float | None = None
    #: Where notes of each try go, empty for nowhere; how many workers a message may kill.
    trace: str = ""
    max_crashes: int = 3
    #: Of ASKED_FOR those that are plugins of services in config.yaml, for a service with a loop of its own.
    plugins: tuple[str, ...] = ()
    #: Seconds that a handler may take for one message, 0 for ever; that the service has to be ready, and to stop.
    handler_timeout: float = 0.0
    start_timeout: float = 30.0
    stop_timeout: float = 6.0
    #: Whether it looks for faults that somebody injects on purpose.
    faults: bool = False
    #: ``text`` or ``json``.
    log_format: str = "text"

    def to_json(self) -> bytes:
        """The spec as it travels; it holds the broker's password, so it is never an argument or a variable."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, raw: bytes) -> WorkerSpec:
        """Read what ``to_json`` wrote."""
        data = json.loads(raw)
        data["ladders"] = {
            queue: Ladder(tuple((delay, name) for delay, name in ladder["steps"]), ladder["dead_letter"])
            for queue, ladder in data["ladders"].items()
        }
        data["publishes"] = {kind: (exchange, template) for kind, (exchange, template) in data["publishes"].items()}
        data |= {name: tuple(data[name]) for name in ("urls", "consumes", "plugins")}
        return cls(**data)


def spec_of(project: Project, objects: Objects, service: str, log_format: str) -> WorkerSpec:
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
        store=project.config.store.url,
        inbox=None if settings.inbox is None else settings.inbox.keep,
        trace=_trace(project, settings),
        max_crashes=settings.max_crashes,
        plugins=_plugins(project, settings),
        handler_timeout=settings.handler_timeout,
        start_timeout=settings.start_timeout,
        stop_timeout=settings.stop_timeout,
        faults=project.config.faults,
        log_format=log_format,
    )


def _trace(project: Project, settings: Service) -> str:
    # Notes about who reads the notes would never end.
    is_noted = bool(settings.consumes) and project.config.trace not in settings.consumes
    return project.config.trace or "" if is_noted else ""


def _plugins(project: Project, settings: Service) -> tuple[str, ...]:
    # Who only consumes does not ask, and is not started anew because another service came or went.
    if settings.consumes:
        return ()
    return tuple(sorted({one.plugin or name for name, one in project.config.services.items()} & ASKED_FOR))
