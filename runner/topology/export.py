"""The entries of a RabbitMQ export. All field types are checked, because the file may have been edited by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from runner.config.error_detail import shown
from runner.errors import RunnerError

T = TypeVar("T")
_MISSING: Any = object()


def entries(data: Mapping[str, Any], section: str) -> list[ExportEntry]:
    """Return the entries of a section, or [] if the section is missing.

    Raises RunnerError if the section is not a list of objects.
    """
    found = data.get(section)
    if found is None:
        return []
    if not isinstance(found, list):
        raise _wrong(section, "not a list", found, "a list of objects")
    for index, one in enumerate(found):
        if not isinstance(one, dict):
            raise _wrong(f"{section}[{index}]", "not an object", one, "an object")
    return [ExportEntry(f"{section}[{index}]", one) for index, one in enumerate(found)]


@dataclass(frozen=True)
class ExportEntry:
    """One object in an export, with its position in the file.

    All methods raise RunnerError if a value has the wrong type.
    """

    place: str
    fields: Mapping[str, Any]

    def text(self, key: str, default: str = _MISSING) -> str:
        """Return the value of a text field."""
        return _readable(self._field(key, str, "not text", "text", default), f"{self.place}.{key}")

    def flag(self, key: str, default: bool) -> bool:
        """Return the value of a boolean field."""
        return self._field(key, bool, "not true or false", "true, false", default)

    def number(self, key: str, default: int) -> int:
        """Return the value of an integer field."""
        value = self._field(key, int, "not a whole number", "a whole number", default)
        if isinstance(value, bool):
            raise _wrong(f"{self.place}.{key}", "not a whole number", value, "a whole number")
        return value

    def table(self, key: str, default: Mapping[str, Any] = _MISSING) -> dict[str, Any]:
        """Return the value of an object field as plain Python values. RabbitMQ may export an empty object as a list."""
        if self.fields.get(key) in (None, []) and default is not _MISSING:
            return dict(default)
        value = self._field(key, dict, "not an object", "an object", default)
        return {
            _readable(name, f"{self.place}.{key}"): _plain(one, f"{self.place}.{key}.{name}")
            for name, one in value.items()
        }

    def _field(self, key: str, kind: type[T], problem: str, allowed: str, default: T) -> T:
        value = self.fields.get(key, default)
        if value is _MISSING:
            raise RunnerError(f"{self.place}: missing {key!r}; allowed: {allowed}")
        if not isinstance(value, kind):
            raise _wrong(f"{self.place}.{key}", problem, value, allowed)
        return value


def _plain(value: Any, place: str) -> Any:
    if isinstance(value, dict):
        return {_readable(name, place): _plain(one, f"{place}.{name}") for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, place) for one in value]
    if isinstance(value, str):
        return _readable(value, place)
    if isinstance(value, Decimal):
        value = float(value)
        if not math.isfinite(value):
            raise _wrong(place, "too large for AMQP", value, "numbers of 64 bits")
    return value


def _readable(text: str, place: str) -> str:
    # JSON can contain half of a surrogate pair, which is not a valid character.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _wrong(place.encode(errors="replace").decode(), "not Unicode text", text, "whole characters") from None
    return text


def _wrong(place: str, problem: str, value: object, allowed: str) -> RunnerError:
    return RunnerError(f"{place}: {problem}, {shown(value)}; allowed: {allowed}")
