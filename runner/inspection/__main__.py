"""``python -m runner.inspection``: answers one question on its standard input."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from runner.config.validation import validate
from runner.errors import PluginError
from runner.inspection.remote import VALUE
from runner.plugins import load_plugin


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
        result.append((["options", *path], text_of(VALUE)))
    return result


def main() -> None:
    """Answer: the faults of the services on standard input, on standard output."""
    # What plugins print goes to standard error, so that the answer stands alone.
    answer = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    question = sys.stdin.buffer.readline()
    if not question:
        return  # nobody has one any more
    folder, services = json.loads(question)
    faults = {}
    for service, about in services.items():
        answer.write(f"{about['plugin']}\n")
        faults[service] = _inspect(about, Path(folder))
    answer.write(f"{json.dumps(faults)}\n")


if __name__ == "__main__":
    main()
