"""Checks of a project's files, plugins, options and events that need no broker."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from runner.config.config_file import ServiceSettings, event_type, is_misplaced_key, is_service_name
from runner.config.document import Document
from runner.config.error_detail import Path as KeyPath
from runner.config.error_detail import unknown
from runner.config.project import CONFIG_FILE, Project, read_project
from runner.config.validation import note
from runner.contract import Terms
from runner.errors import ConfigError, PluginError
from runner.inspection.inspector import VALUE, Inspector
from runner.messages import ATTEMPTS, EVENTS
from runner.plugins import plugin_names
from runner.topology.compile import compile_topology
from runner.topology.model import Objects


def checked_project(
    folder: Path, inspector: Inspector | None = None, meanwhile: Callable[[], None] = lambda: None
) -> tuple[Project, Objects]:
    """Return the project and its topology objects, after all checks that need no broker. Raises ConfigError.

    ``inspector`` is an inspector that is already running. ``meanwhile`` is called while the inspector is working.
    """
    project = project_with_plugins(folder, inspector, meanwhile)
    if not project.config.services:
        raise ConfigError(
            [f"{CONFIG_FILE}:1: services: no service is defined; add a service, such as payment: {{consumes: [...]}}"]
        )
    return project, compile_topology(project.topology, project.consumed)


def project_with_plugins(
    folder: Path, inspector: Inspector | None = None, meanwhile: Callable[[], None] = lambda: None
) -> Project:
    """Read and check a project, which may have no services. Raises ConfigError."""
    project = read_project(folder)
    project = replace(project, terms=check_plugins(project, inspector, meanwhile))
    project.raise_faults()
    return project


def with_recorders(project: Project) -> Project:
    """Return a copy of the project with the contract terms of each service that might record the event history.

    Commands that read the event history call this function. Raises ConfigError if a service's plugin exists but cannot
    be loaded.
    """
    plugins = plugin_names(project.folder)
    services = {
        name: one
        for name, one in project.config.services.items()
        if one.consumes and not one.publishes and (one.plugin or name) in plugins
    }
    project = replace(project, terms=check_plugins(project, services=services))
    project.raise_faults()
    return project


def check_plugins(
    project: Project,
    inspector: Inspector | None = None,
    meanwhile: Callable[[], None] = lambda: None,
    services: Mapping[str, ServiceSettings] | None = None,
) -> dict[str, Terms]:
    """Check the plugins, options and events of ``services``, or of all services by default.

    Errors are added to the document of config.yaml. Returns the contract terms of each plugin with a contract, by
    service.
    """
    document = project.config_document
    names = plugin_names(project.folder)
    request: dict[str, Any] = {}
    for service, settings in (project.config.services if services is None else services).items():
        plugin = settings.plugin or service
        place: KeyPath = ("services", service)
        if not is_service_name(service) or is_misplaced_key(service, document.at(place)):
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
        return {}
    terms: dict[str, Terms] = {}
    for service, found in answer.items():
        for path, text in found["faults"]:
            place = ("services", service, *path)
            # An error about a missing queue may result from an error in the list of queues, which is already reported.
            if path != ["consumes"] or not document.is_faulty(place):
                note(document, place, partial(text.replace, VALUE))
        _check_misplaced_options(service, found["options"], document)
        if found["terms"] is not None:
            terms[service] = Terms.from_json(found["terms"])
            _check_published(service, project, terms[service], document)
    _check_recorders(replace(project, terms=terms), document)
    _check_statuses(terms, document)
    return terms


def _check_recorders(project: Project, document: Document) -> None:
    """Report services that must not record the event history in the same project."""
    recorders = {what: project.recorders(what) for what in (EVENTS, ATTEMPTS)}
    for name in dict.fromkeys([*recorders[EVENTS], *recorders[ATTEMPTS]]):
        settings = project.config.services[name]
        place: KeyPath = ("services", name)
        if settings.publishes:
            text = "the plugin records the event history, and would record its own events too"
            document.fault((*place, "publishes"), f"{text}; remove publishes")
        elif project.store_of(name) != project.history_store:
            document.fault(
                (*place, "store"),
                "differs from the database in which the other service records the event history;"
                " remove the key 'store'",
            )
    for other in recorders[ATTEMPTS][1:]:
        first = recorders[ATTEMPTS][0]
        text = f"records attempts, and so does {first!r}"
        allowed = "allowed: one service with attempt recording, set in the plugin options"
        document.fault(("services", other), f"{text}; {allowed}")


def _check_statuses(terms: Mapping[str, Terms], document: Document) -> None:
    """Report plugins that declare different order statuses after the same event."""
    first: dict[str, tuple[str, str]] = {}
    for service, one in terms.items():
        for event, status in one.statuses.items():
            other, its_status = first.setdefault(event, (service, status))
            if status != its_status:
                text = f"declares order status {status!r} after {event!r}, but {other!r} declares {its_status!r}"
                document.fault(("services", service), f"{text}; allowed: one status per event")


def _check_misplaced_options(service: str, options: Collection[str], document: Document) -> None:
    """Report each plugin option that is next to ``options`` instead of under ``options``."""
    keys = document.at(("services", service))
    for key in keys if isinstance(keys, dict) else ():
        if key in options and key not in ServiceSettings.model_fields:
            place: KeyPath = ("services", service, key)
            document.forget_faults(place)
            document.fault(place, f"{key!r} is a plugin option; indent it under options")


def _check_published(service: str, project: Project, terms: Terms, document: Document) -> None:
    """Report each event that a plugin would fail to publish, because its service has no exchange for the event."""
    settings = project.config.services[service]
    place: KeyPath = ("services", service, "publishes")
    written = {
        event_type(template): (*place, exchange, index)
        for exchange, templates in settings.publishes.items()
        for index, template in enumerate(templates)
    }
    if document.is_faulty(place):
        return
    missing = [event for event in terms.publishes if event not in written]
    for event, at in written.items():
        close = difflib.get_close_matches(event, missing, n=1) if event not in terms.publishes else []
        if close:
            missing.remove(close[0])
            document.fault(at, f"not an event of the plugin, {event!r}; did you mean {close[0]!r}?")
    if missing:
        events = ", ".join(map(repr, missing))
        document.fault(place, f"no exchange for {events}, which the plugin publishes; add {_example(missing)}")


def _example(events: Sequence[str]) -> str:
    return f"publishes: {{EXCHANGE: [{', '.join(events)}]}}"
