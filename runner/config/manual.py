"""The generator of docs/configuration.md, which documents the models of config.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from runner.config.config_file import Config
from runner.config.validation import stripped
from runner.config.value import format_duration, parse_duration, parse_size

#: The name of the service in the examples.
EXAMPLE_SERVICE = "payment"

INTRODUCTION = """\
# config.yaml

*For plugin authors and operators: every key of `config.yaml`, with its default and an example.*

`make schema` generates this page from the models that validate the file. The `check` command reports each error in the
file with its line number. `fastcommerce schema config` prints a JSON Schema, which enables completion in editors.

- A key is optional unless its default is shown as *required*.
- A **duration** is a number with a unit, such as `500ms`, `5s`, `2m`, `1h` or `7d`.
- A **size** is a number with a unit, such as `64KiB`, `10MB` or `1.5GiB`.
- In a value, `${NAME}` is replaced with the environment variable NAME. If NAME is not set, `${NAME:-text}` is replaced
  with `text`. `$$` is replaced with a dollar sign.
- Store passwords in environment variables or in files. NAME_FILE is the path of a file with the value of NAME
  ([containers.md](containers.md)).
- The `Options` class of a plugin defines the keys under `options` ([plugins.md](plugins.md)). This page ends with the
  options of the shipped plugins.
- [supervisor.md](supervisor.md) describes how the supervisor keeps services running.
- The values in the examples differ from the defaults.
"""


@dataclass(frozen=True)
class Section:
    """A mapping in config.yaml, with the model that validates the mapping."""

    #: The path from the top of the file to the mapping. ``NAME`` stands for the name of a service.
    path: tuple[str, ...]
    model: type[BaseModel]

    @property
    def title(self) -> str:
        """The section's title, which is the path in dotted notation."""
        return f"`{'.'.join(self.path)}`" if self.path else "Top-level keys"

    @property
    def link(self) -> str:
        """A link to the section, with the anchor that GitHub generates from the title."""
        return f"[{self.title}](#{''.join(self.path).lower()})"

    def fields(self) -> dict[str, FieldInfo]:
        """Return the model's own keys, followed by its inherited keys."""
        found = self.model.model_fields
        own = [name for name in found if name in self.model.__annotations__]
        return {name: found[name] for name in [*own, *(name for name in found if name not in own)]}

    def inside(self, name: str) -> Section | None:
        """Return the section for a key whose value is a mapping, or None if the value has no known keys."""
        kind = stripped(self.model.model_fields[name].annotation)
        model, is_named = _model_in(kind), get_origin(kind) is dict
        return None if model is None else Section((*self.path, name, *(["NAME"] if is_named else [])), model)

    def examples(self) -> dict[str, Any]:
        """Return the first example of each key whose value is not a mapping with known keys."""
        return {name: field.examples[0] for name, field in self.fields().items() if field.examples}

    def example(self) -> str:
        """Return YAML with all examples in the model, or an empty string if the model has no examples."""
        found: Any = self.examples()
        if not found:
            return ""
        for part in reversed(self.path):
            found = {EXAMPLE_SERVICE if part == "NAME" else part: found}
        # In nested mappings, each innermost mapping is on one line.
        style = None if len(self.path) > 1 else False
        return yaml.safe_dump(found, sort_keys=False, width=110, default_flow_style=style)


def sections(start: Section = Section((), Config)) -> Iterator[Section]:
    """Yield ``start``, followed by a section for each mapping inside ``start``."""
    yield start
    for name in start.fields():
        if (inside := start.inside(name)) is not None:
            yield from sections(inside)


def page(options: Mapping[str, type[BaseModel]]) -> str:
    """Return the whole page. ``options`` maps each plugin to the model of the plugin's options."""
    plugins = [Section(("services", name, "options"), model) for name, model in options.items() if model.model_fields]
    every = [*sections(), *(section for start in plugins for section in sections(start))]
    return "\n".join([INTRODUCTION, *(_chapter(section) for section in every)])


def _chapter(section: Section) -> str:
    lines = [f"## {section.title}", "", _marked_up(section.model.__doc__ or ""), ""]
    if example := section.example():
        lines += ["```yaml", example.rstrip("\n"), "```", ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in section.fields().items():
        inside = section.inside(name)
        link = "" if inside is None else f"; see {inside.link}"
        meaning = _marked_up(field.description or "")
        lines.append(f"| `{name}` | {_kind(field)} | {_default(field)} | {meaning.removesuffix('.')}{link}. |")
    return "\n".join([*lines, ""])


def _marked_up(text: str) -> str:
    """Convert a description to Markdown. Names in braces become code, and special characters are escaped."""
    text = text.strip().replace("``", "`").replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"\$?\{[^{}]*\}", lambda found: f"`{found[0]}`", text)


def _model_in(kind: Any) -> type[BaseModel] | None:
    """Return the model of a value, or the model of each value in a mapping with free names."""
    kind = stripped(kind)
    if get_origin(kind) is dict:
        kind = stripped(get_args(kind)[1])
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _kind(field: FieldInfo) -> str:
    kind = stripped(field.annotation)
    # The functions are compared by name, because plugins have their own copies of the functions.
    reads = {getattr(one.func, "__name__", "") for one in _metadata(field) if isinstance(one, BeforeValidator)}
    limits = {name: getattr(one, name) for one in _metadata(field) for name in ("ge", "gt", "le") if hasattr(one, name)}
    if parse_duration.__name__ in reads:
        return "duration" if limits.get("gt") != 0 else "duration over 0s"
    if parse_size.__name__ in reads:
        return "size"
    if get_origin(kind) is Literal:
        *first, last = (f"`{one}`" for one in get_args(kind))
        return f"{', '.join(first)} or {last}"
    is_switch = any({"type": "boolean"} in _alternatives(one) for one in _metadata(field))
    return ("true, false, or a " if is_switch else "") + _words(kind) + _range(limits)


def _alternatives(one: Any) -> list[Any]:
    schema = getattr(one, "json_schema", None)
    return schema.get("anyOf", []) if isinstance(schema, dict) else []


def _words(kind: Any) -> str:
    kind = stripped(kind)
    if get_origin(kind) is dict:
        values = _words(get_args(kind)[1])
        return "mapping" if values == "any value" or _model_in(kind) is not None else f"mapping of names to {values}"
    if get_origin(kind) is list:
        return "list of strings"
    if get_origin(kind) is tuple:
        return "string, or a list of strings"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "mapping"
    words = {bool: "true or false", int: "whole number", float: "number", Decimal: "number"}
    return words.get(kind, "string" if kind in (str, Path, SecretStr) else "any value")


def _range(limits: dict[str, Any]) -> str:
    low, high = limits.get("ge"), limits.get("le")
    if low is not None and high is not None:
        return f", {low} to {high}"
    return f", {low} or more" if low is not None else ""


def _metadata(field: FieldInfo) -> list[Any]:
    """Return the annotations of a field, including the annotations inside ``X | None``."""
    found = list(field.metadata)
    for member in get_args(field.annotation):
        found += getattr(member, "__metadata__", ())
    for one in list(found):
        found += getattr(one, "metadata", ())
    return found


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return "its defaults"
    if isinstance(value, tuple) and len(value) == 1:
        (value,) = value
    if _kind(field).startswith("duration") and isinstance(value, float):
        value = format_duration(value)
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}`"
