"""The JSON Schemas of topology.yaml and config.yaml, for editors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from runner.config.argument import (
    EXCHANGE_POLICY_KEYS,
    QUEUE_ARGUMENTS,
    QUEUE_POLICY_KEYS,
)
from runner.config.config_file import Config
from runner.config.exchange_type import EXCHANGE_TYPES, arguments_of
from runner.config.setting import Setting
from runner.config.topology_file import Topology

#: The model of each file for which ``schema`` prints a JSON Schema.
MODELS: dict[str, type[BaseModel]] = {"config": Config, "topology": Topology}


def json_schema(name: str) -> dict[str, Any]:
    """Return the schema of ``config`` or ``topology``, in JSON Schema draft 2020-12.

    In place of a number or a boolean, the schema also accepts text with a variable, such as ``${PORT:-8000}``.
    """
    schema = MODELS[name].model_json_schema(mode="validation")
    variable = {"type": "string", "pattern": r"\$\{"}

    def widened(node: Any) -> Any:
        if isinstance(node, list):
            return [widened(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {
            # The keys inside these mappings are names, which may coincide with JSON Schema keywords.
            key: {name: widened(one) for name, one in value.items()}
            if key in ("properties", "$defs")
            else widened(value)
            for key, value in node.items()
        }
        if node.get("type") in ("integer", "number", "boolean"):
            outer = {key: node.pop(key) for key in ("description", "default", "title") if key in node}
            return {**outer, "anyOf": [node, variable]}
        if "enum" in node or "pattern" in node:
            outer = {key: node.pop(key) for key in ("description", "default", "title") if key in node}
            return {**outer, "anyOf": [node, variable]}
        return node

    if name == "topology":
        _name_settings(schema["$defs"])
    result = widened(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **result,
        "title": f"FastCommerce {name}.yaml",
    }


def _name_settings(definitions: dict[str, Any]) -> None:
    """Add the known arguments and policy keys to the definitions, so that editors can suggest them."""
    policy_keys = {**EXCHANGE_POLICY_KEYS, **QUEUE_POLICY_KEYS}
    for part, key, known in (
        ("QueueSettings", "policy", QUEUE_POLICY_KEYS),
        ("QueueSettings", "arguments", QUEUE_ARGUMENTS),
        ("PolicySettings", "definition", policy_keys),
    ):
        place = definitions[part]["properties"][key]
        place["properties"] = {name: _setting_schema(setting) for name, setting in known.items()}
        if key != "arguments":
            place["additionalProperties"] = False
    # Other keys remain allowed, because plugins add their own arguments.
    place = definitions["ExchangeSettings"]["properties"]["arguments"]
    known_arguments = {key: one for kind in EXCHANGE_TYPES for key, one in arguments_of(kind).items()}
    place["properties"] = {name: _setting_schema(setting) for name, setting in known_arguments.items()}


def _setting_schema(setting: Setting) -> dict[str, Any]:
    types = {"integer": "integer", "boolean": "boolean", "text": "string", "age": "string"}
    schema: dict[str, Any] = {"type": types[setting.kind]} if setting.kind in types else {}
    if setting.words:
        schema["enum"] = list(setting.words)
    if setting.kind == "integer":
        limits = {"minimum": setting.minimum, "maximum": setting.maximum}
        schema |= {name: value for name, value in limits.items() if value is not None}
    return schema
