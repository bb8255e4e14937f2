"""``python -m runner.inspection``: the process that checks the plugins in one request from standard input."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from runner.config.validation import validate
from runner.contract import Terms
from runner.errors import PluginError
from runner.inspection.inspector import VALUE
from runner.plugins import Plugin, load_plugin


def _inspect(service: dict[str, Any], folder: Path) -> dict[str, Any]:
    try:
        plugin = load_plugin(service["plugin"], folder)
    except PluginError as error:
        return {"faults": [([], str(error))], "options": [], "terms": None}
    result: list[tuple[list[str | int], str]] = []
    if service["consumes"] and "handle" not in plugin.implements:
        text = f"plugin {plugin.name!r} handles no messages; remove the queues, or add the 'handle' hook to the plugin"
        result.append((["consumes"], text))
    if not service["consumes"] and "run" not in plugin.implements:
        result.append((["consumes"], f"no queue, although plugin {plugin.name!r} only handles messages; add a queue"))
    options, faults = validate(plugin.options, service["options"])
    for path, text_of in faults:
        result.append((["options", *path], text_of(VALUE)))
    terms = None
    if options is not None and "contract" in plugin.implements:
        try:
            terms = _terms(plugin, options)
        except PluginError as error:
            result.append(([], str(error)))
    return {"faults": result, "options": sorted(plugin.options.model_fields), "terms": terms}


def _terms(plugin: Plugin, options: Any) -> dict[str, Any]:
    try:
        contract = plugin.hook.contract(options=options)
    except PluginError:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{where.filename}:{where.lineno}: {type(error).__name__}: {error}"
        raise PluginError(f"plugin {plugin.name!r}: the 'contract' hook failed, {place}; fix the plugin") from error
    return Terms.of(contract, plugin.name).as_json()


def main() -> None:
    """Read one request from standard input, and write the result of the checks to standard output."""
    # Plugins print to standard error, so that standard output contains only the response.
    answer = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    question = sys.stdin.buffer.readline()
    if not question:
        return  # the parent process has exited without sending a request
    folder, services = json.loads(question)
    # The path must be absolute, because the current folder is changed below.
    here = Path(folder).absolute() if Path(folder) != Path() else Path()
    os.chdir(folder)  # as workers do, so that relative paths in options refer to the same files
    found = {}
    for service, about in services.items():
        answer.write(f"{about['plugin']}\n")
        found[service] = _inspect(about, here)
    answer.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
