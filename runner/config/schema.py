"""JSON Schema of both files, for editors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from runner.config.settings import Config
from runner.config.topology import Topology

#: The files that ``python -m runner schema`` knows.
MODELS: dict[str, type[BaseModel]] = {"config": Config, "topology": Topology}


def json_schema(name: str) -> dict[str, Any]:
    """The schema of ``config`` or ``topology``, in JSON Schema's draft 2020-12.

    Wherever a number or a boolean is allowed, so is text with a variable, ``${PORT:-8000}``.
    """
    schema = MODELS[name].model_json_schema(mode="validation")
    variable = {"type": "string", "pattern": r"\$\{"}

    def widened(node: Any) -> Any:
        if isinstance(node, list):
            return [widened(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {key: widened(value) for key, value in node.items()}
        if node.get("type") in ("integer", "number", "boolean"):
            outer = {key: node.pop(key) for key in ("description", "default", "title") if key in node}
            return {**outer, "anyOf": [node, variable]}
        if "enum" in node or "pattern" in node:
            outer = {key: node.pop(key) for key in ("description", "default", "title") if key in node}
            return {**outer, "anyOf": [node, variable]}
        return node

    result = widened(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **result,
        "title": f"FastCommerce {name}.yaml",
    }
