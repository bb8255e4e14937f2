"""A YAML reader that expands variables and records the line of each value.

Plain scalars follow YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema), so ``no`` and ``on`` are
text, not booleans.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import yaml

from runner.config.error_detail import ErrorDetail, Path, dotted, shown, value_at
from runner.config.variable import find_variable

#: The maximum size of a file in bytes.
MAX_BYTES = 1024 * 1024
#: The maximum number of values in a file after the expansion of aliases.
MAX_VALUES = 100_000
#: The maximum nesting depth. Much deeper nesting would exceed Python's recursion limit.
MAX_DEPTH = 50

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\})")
_INTEGER = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


def plain_value(text: str) -> Any:
    """Return the value of an unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        # A longer number remains text, because no setting needs it and Python refuses to convert very long numbers.
        return text if len(text) > 300 else int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


class Document:
    """A YAML file, with the line of each value and the errors found so far."""

    def __init__(self, file: str, text: str, environment: Mapping[str, str] | None = None) -> None:
        self.file, self.text = file, text
        self.faults: list[ErrorDetail] = []
        self.data: dict[str, Any] = {}
        self._environment = dict(os.environ) if environment is None else environment
        self._lines: dict[Path, int] = {}
        self._unexpanded: dict[Path, str] = {}
        self._unknown: set[Path] = set()
        self._values = 0
        self._load(text)

    def fault(self, path: Path, text: str) -> None:
        """Add an error at ``path``, with the line number from ``line``."""
        self.faults.append(ErrorDetail(self.file, self.line(path), dotted(path), text))

    def forget_faults(self, path: Path) -> None:
        """Remove the errors at or below ``path``, which follow from another error."""
        name = dotted(path)
        self.faults = [one for one in self.faults if one.path != name and not one.path.startswith(f"{name}.")]

    def line(self, path: Path) -> int:
        """Return the line of the value at ``path``, or the line of the nearest parent in the file."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    @property
    def is_unusable(self) -> bool:
        """True if no value in the file could be read."""
        return bool(self.faults) and not self.data

    def is_faulty(self, path: Path) -> bool:
        """Return True if there is an error at or below ``path``."""
        name = dotted(path)
        return any(fault.path == name or fault.path.startswith(f"{name}.") for fault in self.faults)

    def at(self, path: Path) -> Any:
        """Return the value at ``path``, or None if there is no such value."""
        return value_at(self.data, path)

    def is_mapping(self, section: str) -> bool:
        """Return True if a top-level section is missing or is a mapping."""
        return isinstance(self.data.get(section, {}), dict)

    def keys_of(self, section: str) -> set[str]:
        """Return the keys of a top-level section, or an empty set if the section is not a mapping."""
        value = self.data.get(section)
        return set(value) if isinstance(value, dict) else set()

    def shown(self, path: Path) -> str:
        """Return the value at ``path`` for an error message, with variable names instead of their values."""
        return repr(self._unexpanded[path]) if path in self._unexpanded else shown(self.at(path))

    def is_unknown(self, path: Path) -> bool:
        """Return True if an error makes the value at ``path`` unknown, so that further errors would be misleading."""
        return path in self._unknown

    def _load(self, text: str) -> None:
        if len(text) > MAX_BYTES:
            self.fault((), f"the file has {len(text)} bytes; allowed: up to {MAX_BYTES} bytes")
            return
        try:
            _check_depth(text)
            node = yaml.compose(text, Loader=_LOADER)
            data = {} if node is None else self._value(node, (), ())
        except yaml.MarkedYAMLError as error:
            self._lines[()] = _line_of(error, len(text.splitlines()))
            self.fault((), f"not YAML, {_problem(error, text)}")
        except yaml.YAMLError as error:
            self.fault((), str(error).splitlines()[0])
        except _TooMuch as error:
            self._lines[()] = error.line
            self.fault((), str(error))
        else:
            if isinstance(data, dict):
                self.data = data
            elif data is not None:
                self.fault((), f"not a mapping, {shown(data)}; allowed: key: value pairs")

    def _value(self, node: yaml.Node, path: Path, outer: tuple[yaml.Node, ...]) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _TooMuch(f"too many values after the expansion of aliases; allowed: {MAX_VALUES}")
        if len(outer) > MAX_DEPTH:
            raise _TooMuch(f"nested too deeply; allowed: {MAX_DEPTH} levels")
        if any(node is one for one in outer):
            self._unknown.add(path)
            self.fault(path, "the alias refers to a value that contains the alias; allowed: aliases to other values")
            return None
        if not node.tag.startswith("tag:yaml.org,2002:") or ":python/" in node.tag:
            self._unknown.add(path)
            self.fault(path, f"the tag {node.tag!r} is not allowed; write the value without a tag")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, (*outer, node))
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                # The YAML node of an alias has the line of its anchor, which may be far above the alias.
                self._lines[(*path, index)] = max(item.start_mark.line, node.start_mark.line) + 1
                items.append(self._value(item, (*path, index), (*outer, node)))
            return items
        return self._scalar(node, path) if isinstance(node, yaml.ScalarNode) else None

    def _mapping(self, node: yaml.MappingNode, path: Path, outer: tuple[yaml.Node, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._lines.setdefault(path, line)
                self.fault(path, "the key is a list or a mapping; allowed: text")
                continue
            key = key_node.value
            inner = (*path, key)
            if key in result:
                first = self._lines[inner]
                self._lines[inner] = line
                self.fault(inner, f"duplicate key {key!r}, first on line {first}; keep one of them")
                self._lines[inner] = first
                continue
            self._lines[inner] = line
            result[key] = self._value(value_node, inner, outer)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text, quoted = node.value, bool(node.style)
        if "$" in text:
            expanded = _VARIABLE.sub(lambda match: self._expand(match, path), text)
            if expanded != text:
                self._unexpanded[path] = text
            text = expanded
        if quoted and not (path in self._unexpanded and node.style == '"' and not _is_option(path)):
            return text
        # Users quote variables, because a brace starts a mapping. A quoted variable can still be a number or a boolean.
        value = plain_value(text)
        return text if quoted and value is None else value

    def _expand(self, match: re.Match[str], path: Path) -> str:
        name, default = match["name"], match["default"]
        if name is None:
            return "$"
        try:
            value = find_variable(name, self._environment)
        except ValueError as error:
            # The default value is not used after an error, because it may be the login for another server.
            problem = str(error)
        else:
            if value is not None:
                return value
            if default is not None:
                return default[2:]
            problem = f"environment variable {name!r} is not set; set it, or give a default: ${{{name}:-value}}"
        self._unknown.add(path)
        self.fault(path, problem)
        return ""


def _is_option(path: Path) -> bool:
    # The plugin's model converts text to numbers if necessary. A password that consists of digits must remain text.
    return len(path) > 3 and path[0] == "services" and path[2] == "options"


def _check_depth(text: str) -> None:
    # Check the depth first, because deep recursion in yaml.compose (written in C) would crash the process.
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise _TooMuch(f"nested too deeply; allowed: {MAX_DEPTH} levels", line)


def _line_of(error: yaml.MarkedYAMLError, lines: int) -> int:
    # The parser detects an unclosed bracket or quote only at the end of the file. The line of the opening character is
    # more useful.
    for mark in (error.problem_mark, error.context_mark):
        if mark is not None and mark.line < lines:
            return mark.line + 1
    return max(1, lines)


def _problem(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark
    lines = text.splitlines()
    # libyaml's message about a tab in the indentation does not mention the tab.
    if mark is not None and mark.line < len(lines) and lines[mark.line][mark.column : mark.column + 1] == "\t":
        return "a tab; allowed: spaces for indentation"
    if error.problem == "but found another document":
        return "a second document; allowed: one document per file"
    return f"{error.problem or error.context}; check quotes, indentation and colons"


class _TooMuch(Exception):
    """An error for a file that exceeds a limit, with the line number."""

    def __init__(self, text: str, line: int = 1) -> None:
        super().__init__(text)
        self.line = line
