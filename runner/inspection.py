"""Check plugins and their options before anything runs, in a process of their own.

A plugin's code may hang, crash or print; none of that may reach the process that supervises.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from runner.config.fault import Path as KeyPath
from runner.config.fault import unknown
from runner.config.project import CONFIG_FILE, Project, read_project
from runner.config.settings import is_service_name
from runner.config.validation import note, validate
from runner.errors import ConfigError, PluginError
from runner.plugins import load_plugin, plugin_names
from runner.topology.compile import compile_topology
from runner.topology.model import Objects

#: Stands in a text for the value, which may come from a secret variable: only the document knows how to show it.
_VALUE = "\x00"
#: Seconds that importing all plugins may take.
TIMEOUT = 30


def checked_project(folder: Path) -> tuple[Project, Objects]:
    """The project with everything about it checked that can be without a broker. Raises ConfigError."""
    project = read_project(folder)
    check_plugins(project)
    project.raise_faults()
    if not project.config.services:
        raise ConfigError(
            [f"{CONFIG_FILE}:1: services: none is defined; add one, such as payment: {{consumes: [...]}}"]
        )
    return project, compile_topology(project.topology, project.consumed)


def check_plugins(project: Project) -> None:
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
        answer = _ask(project.folder, request)
    except PluginError as error:
        document.fault(("services",), str(error))
        return
    for service, faults in answer.items():
        for path, text in faults:
            place = ("services", service, *path)
            # Where the queues are faulty, that there is none may only follow from it.
            if path != ["consumes"] or not document.is_faulty(place):
                note(document, place, partial(text.replace, _VALUE))


def _ask(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    if not request:
        return {}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "runner.inspection", str(folder)],
            input=json.dumps(request).encode(), capture_output=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        *_, last = [b"", *(late.stdout or b"").splitlines()]
        raise PluginError(
            f"plugin {last.decode('utf-8', 'replace')!r}: importing it took over {TIMEOUT} s; move slow work from the"
            " module into the hook 'start'"
        ) from None
    *_, last = [b"", *done.stdout.splitlines()]
    try:
        answer: dict[str, Any] = json.loads(last)
    except ValueError:
        # The last line is then the name of the plugin that was being imported.
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = f"exit {done.returncode}" + (f", {lines[-1]}" if lines else "")
        name = last.decode("utf-8", "replace")
        raise PluginError(f"plugin {name!r}: importing it ended the process, {reason}; mend or remove it") from None
    return answer


def _inspect(service: dict[str, Any], folder: Path) -> list[tuple[list[str | int], str]]:
    try:
        plugin = load_plugin(service["plugin"], folder)
    except PluginError as error:
        return [([], str(error))]
    result: list[tuple[list[str | int], str]] = []
    if service["consumes"] and "handle" not in plugin.implements:
        text = f"plugin {plugin.name!r} handles no messages; remove the queues, or give it the hook 'handle'"
        result.append((["consumes"], text))
    if not service["consumes"] and "run" not in plugin.implements:
        result.append((["consumes"], f"no queue, and plugin {plugin.name!r} only handles messages; name a queue"))
    _, faults = validate(plugin.options, service["options"])
    for path, text_of in faults:
        result.append((["options", *path], text_of(_VALUE)))
    return result


def main() -> None:
    """Answer one request: services on standard input, their faults on standard output."""
    # What plugins print goes to standard error, so that the answer stands alone.
    answer = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    folder = Path(sys.argv[1])
    faults = {}
    for service, about in json.loads(sys.stdin.buffer.read()).items():
        answer.write(f"{about['plugin']}\n")
        faults[service] = _inspect(about, folder)
    answer.write(f"{json.dumps(faults)}\n")


if __name__ == "__main__":
    main()
