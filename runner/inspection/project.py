"""A project with everything about it checked that can be without a broker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from runner.config.fault import Path as KeyPath
from runner.config.fault import unknown
from runner.config.project import CONFIG_FILE, Project, read_project
from runner.config.settings import is_service_name
from runner.config.validation import note
from runner.errors import ConfigError, PluginError
from runner.inspection.remote import VALUE, Inspector
from runner.plugins import plugin_names
from runner.topology.compile import compile_topology
from runner.topology.model import Objects


def checked_project(
    folder: Path, inspector: Inspector | None = None, meanwhile: Callable[[], None] = lambda: None
) -> tuple[Project, Objects]:
    """The project with everything about it checked that can be without a broker. Raises ConfigError.

    ``inspector`` is one that has been started already; ``meanwhile`` is called while it is at work.
    """
    project = read_project(folder)
    check_plugins(project, inspector, meanwhile)
    project.raise_faults()
    if not project.config.services:
        raise ConfigError(
            [f"{CONFIG_FILE}:1: services: none is defined; add one, such as payment: {{consumes: [...]}}"]
        )
    return project, compile_topology(project.topology, project.consumed)


def check_plugins(
    project: Project, inspector: Inspector | None = None, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Check each service's plugin and options; the faults are noted in config.yaml's document."""
    document = project.config_document
    names = plugin_names(project.folder)
    request: dict[str, Any] = {}
    for service, settings in project.config.services.items():
        plugin = settings.plugin or service
        place: KeyPath = ("services", service)
        if not is_service_name(service):
            continue
        if plugin in names:
            request[service] = {
                "plugin": plugin,
                "options": settings.options,
                "consumes": bool(settings.consumes),
            }
        else:
            place = (*place, "plugin") if settings.plugin else place
            document.fault(place, unknown("plugin", plugin, names, document.shown(place) if settings.plugin else None))
    try:
        answer = (inspector or Inspector()).ask(project.folder, request, meanwhile) if request else {}
    except PluginError as error:
        document.fault(("services",), str(error))
        return
    for service, faults in answer.items():
        for path, text in faults:
            place = ("services", service, *path)
            # Where the queues are faulty, that there is none may only follow from it.
            if path != ["consumes"] or not document.is_faulty(place):
                note(document, place, partial(text.replace, VALUE))
