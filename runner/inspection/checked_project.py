"""A project whose files, plugins, options and events are checked as far as possible without a broker."""

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
    """Return the project, checked as far as possible without a broker, and its objects. Raises ConfigError.

    ``inspector`` is an inspector that was started earlier. ``meanwhile`` is called while the inspector works.
    """
    project = project_with_plugins(folder, inspector, meanwhile)
    if not project.config.services:
        raise ConfigError(
            [f"{CONFIG_FILE}:1: services: none is defined; add one, such as payment: {{consumes: [...]}}"]
        )
    return project, compile_topology(project.topology, project.consumed)


def project_with_plugins(
    folder: Path, inspector: Inspector | None = None, meanwhile: Callable[[], None] = lambda: None
) -> Project:
    """Return the checked project, even if it has no services and only declares a topology. Raises ConfigError."""
    project = read_project(folder)
    project = replace(project, terms=check_plugins(project, inspector, meanwhile))
    project.raise_faults()
    return project


def with_recorders(project: Project) -> Project:
    """Return a project with the terms of services that may record the event history, for commands that read it.

    Raises ConfigError if one of their plugins exists and cannot be loaded.
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
    """Check the plugin, options and events of all services, or of ``services``.

    The errors are added to the document of config.yaml. Returns the terms of plugins with a contract, by service.
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
            # If the list of queues contains an error, this error may be the only reason for a missing queue.
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
    """Report services that cannot record the event history together."""
    recorders = {what: project.recorders(what) for what in (EVENTS, ATTEMPTS)}
    for name in dict.fromkeys([*recorders[EVENTS], *recorders[ATTEMPTS]]):
        settings = project.config.services[name]
        place: KeyPath = ("services", name)
        if settings.publishes:
            text = "the plugin records the event history, and would also record its own events"
            document.fault((*place, "publishes"), f"{text}; remove it")
        elif project.store_of(name) != project.history_store:
            document.fault(
                (*place, "store"),
                "not the database of the other service that records the event history; remove it",
            )
    for other in recorders[ATTEMPTS][1:]:
        first = recorders[ATTEMPTS][0]
        text = f"records attempts, as {first!r} does; allowed: one such service, by the options of their plugins"
        document.fault(("services", other), text)


def _check_statuses(terms: Mapping[str, Terms], document: Document) -> None:
    """Report plugins that assign different statuses to an order after the same event."""
    first: dict[str, tuple[str, str]] = {}
    for service, one in terms.items():
        for event, status in one.statuses.items():
            other, its_status = first.setdefault(event, (service, status))
            if status != its_status:
                text = f"the status of an order after {event!r} is {status!r}, and {its_status!r} by {other!r}"
                document.fault(("services", service), f"{text}; allowed: one status for an event")


def _check_misplaced_options(service: str, options: Collection[str], document: Document) -> None:
    """Report each plugin option that is next to ``options`` instead of inside it."""
    keys = document.at(("services", service))
    for key in keys if isinstance(keys, dict) else ():
        if key in options and key not in ServiceSettings.model_fields:
            place: KeyPath = ("services", service, key)
            document.forget_faults(place)
            document.fault(place, f"{key!r} is an option of the plugin; indent it below options")


def _check_published(service: str, project: Project, terms: Terms, document: Document) -> None:
    """Report a service without an exchange for one of its plugin's events, because publishing would fail."""
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
        document.fault(place, f"the plugin publishes {events}, without an exchange here; add {_example(missing)}")


def _example(events: Sequence[str]) -> str:
    return f"publishes: {{EXCHANGE: [{', '.join(events)}]}}"
