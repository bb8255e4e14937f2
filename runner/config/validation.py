"""Validation of plain values by pydantic models, with error texts in this project's style."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runner.config.error_detail import Path, belonging, new_key, one_of, value_at
from runner.config.value import Unshown

if TYPE_CHECKING:
    from runner.config.document import Document

M = TypeVar("M", bound=BaseModel)
#: The path of an error, and a function that returns the error text for a formatted value.
Complaint = tuple[Path, Callable[[str], str]]

#: The error texts for pydantic's error types (https://docs.pydantic.dev/latest/errors/validation_errors/).
_KINDS = {
    "int_type": "not a whole number, {value}; allowed: a whole number",
    "int_parsing": "not a whole number, {value}; allowed: a whole number",
    "int_from_float": "not a whole number, {value}; allowed: a whole number",
    "float_type": "not a number, {value}; allowed: a number",
    "float_parsing": "not a number, {value}; allowed: a number",
    "decimal_type": "not a number, {value}; allowed: a number",
    "decimal_parsing": "not a number, {value}; allowed: a number",
    "bool_type": "not true or false, {value}; allowed: true, false",
    "bool_parsing": "not true or false, {value}; allowed: true, false",
    "string_type": "not text, {value}; allowed: text (in quotes, if it looks like a number)",
    "dict_type": "not a mapping, {value}; allowed: key: value pairs",
    "model_type": "not a mapping, {value}; allowed: key: value pairs",
    "model_attributes_type": "not a mapping, {value}; allowed: key: value pairs",
    "list_type": "not a list, {value}; allowed: a list, such as [a, b]",
    "tuple_type": "not a list, {value}; allowed: a list, such as [a, b]",
    "greater_than": "out of range, {value}; allowed: more than {gt}",
    "greater_than_equal": "out of range, {value}; allowed: {ge} or more",
    "less_than": "out of range, {value}; allowed: less than {lt}",
    "less_than_equal": "out of range, {value}; allowed: {le} or less",
    "string_pattern_mismatch": "does not match the required pattern, {value}; allowed: {pattern}",
    "string_too_short": "too short, {value}; allowed: {min_length} characters or more",
    "string_too_long": "too long, {value}; allowed: {max_length} characters or fewer",
    "too_short": "too few, {actual_length}; allowed: {min_length} or more",
    "too_long": "too many, {actual_length}; allowed: {max_length} or fewer",
}


def validate(model: type[M], data: Any) -> tuple[M | None, list[Complaint]]:
    """Return the model, or None if the data is invalid, and the path and text of each error.

    An unknown key is an error even if the model ignores unknown keys. Otherwise, a typo in a plugin's options would go
    unnoticed.
    """
    faults: dict[Path, Callable[[str], str]] = {}
    instance: M | None = None
    try:
        instance = model.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            path, text = _translate(model, detail)
            faults.setdefault(path, text)
        # An error about a container with invalid items is a consequence, because pydantic does not count invalid items.
        for path in [one for one in faults if any(one == other[: len(one)] != other for other in faults)]:
            del faults[path]
    for path, text in _ignored_keys(model, data):
        faults.setdefault(path, text)
    return (None if faults else instance), list(faults.items())


def validate_document(model: type[M], document: Document) -> M:
    """Return the document as a ``model``, and add the validation errors to the document.

    The model omits invalid values, so that the other values can be checked further.
    """
    data = document.data
    noted = False
    while True:
        instance, faults = validate(model, data)
        if instance is not None:
            return instance
        if not noted:
            for path, text in faults:
                note(document, path, _former_key(document.file, path) or text)
            noted = True
        for path, _ in faults:
            data = _without(data, _in_file(data, path))


def _former_key(file: str, path: Path) -> Callable[[str], str] | None:
    """Return the error text for a former key, or None for any other key."""
    new = new_key(file, path)
    return None if new is None else lambda _: f"unknown key {str(path[-1])!r}; it is now {new!r}"


def note(document: Document, path: Path, text: Callable[[str], str]) -> None:
    """Add an error from ``validate`` to the document. The error shows the value only if the value is not secret."""
    place = _in_file(document.data, path)
    if not document.is_unknown(place):
        document.fault(place, text(document.shown(place)))


def _without(data: Any, path: Path) -> Any:
    """Return ``data`` without the value at ``path``, or without the mapping in which the value is missing."""
    if not path:
        return {}
    while path and value_at(data, path[:-1]) is None:
        path = path[:-1]
    parent = value_at(data, path[:-1])
    if isinstance(parent, dict) and path[-1] not in parent:
        return _without(data, path[:-1])
    return _copy_without(data, path)


def _copy_without(data: Any, path: Path) -> Any:
    if isinstance(data, dict):
        return {
            key: _copy_without(value, path[1:]) if key == path[0] else value
            for key, value in data.items()
            if (key,) != path
        }
    if isinstance(data, list):
        return [
            _copy_without(value, path[1:]) if index == path[0] else value
            for index, value in enumerate(data)
            if (index,) != path
        ]
    return data


def _ignored_keys(kind: Any, data: Any, path: Path = ()) -> Iterator[Complaint]:
    """Yield an error for each key that pydantic ignores, in ``kind`` and its nested models."""
    kind = stripped(kind)
    if isinstance(data, dict) and (_is_model(kind) or get_origin(kind) is dict):
        ignores = _is_model(kind) and kind.model_config.get("extra") in (None, "ignore")
        known = _keys(kind) if _is_model(kind) else set(data)
        for key, value in data.items():
            if key in known:
                yield from _ignored_keys(_inside(kind, key), value, (*path, key))
            elif ignores:
                yield (*path, key), _unknown_key(key, known)
    elif isinstance(data, list) and get_origin(kind) in (list, tuple):
        for index, value in enumerate(data):
            yield from _ignored_keys(_inside(kind, index), value, (*path, index))


def _unknown_key(key: str, known: set[str]) -> Callable[[str], str]:
    return lambda _: f"unknown key {key!r}; {belonging(key) or one_of(key, known)}"


def _translate(model: type[BaseModel], detail: ErrorDetails) -> Complaint:  # noqa: PLR0911 - one for each kind
    path = _path(model, detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        inside = _type_at(model, path[:-1])
        return path, _unknown_key(str(path[-1]), _keys(inside) if _is_model(inside) else set())
    if kind == "missing":
        return path, lambda _: f"missing key {str(path[-1])!r}; add it"
    if kind in ("literal_error", "enum"):
        value = detail["input"]
        kind_there = _type_at(model, path)
        members = list(kind_there) if kind == "enum" else get_args(kind_there)
        allowed = [str(getattr(one, "value", one)) for one in members]
        return path, lambda text: f"unknown value {text}; {one_of(str(value), allowed)}"
    if kind == "value_error":
        reason, _, remedy = str(context["error"]).partition(";")
        # An error in a whole model concerns several values, so the error shows no value.
        if isinstance(context["error"], Unshown) or _is_model(_type_at(model, path)):
            return path, lambda _: str(context["error"])
        return path, lambda text: f"{reason}, {text};{remedy}" if remedy else f"{reason}, {text}"
    words = _KINDS.get(kind)
    if words is None:
        message = detail["msg"]
        return path, lambda text: f"{message[:1].lower()}{message[1:]}, {text}"
    limits = {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
    return path, lambda text: words.format(value=text, **limits)


def _path(model: type[BaseModel], loc: tuple[str | int, ...]) -> Path:
    """Return pydantic's location without the names of union members, which are not keys in the file."""
    path: Path = ()
    here: Any = model
    for part in loc:
        here = stripped(here)
        if not _is_model(here) and get_origin(here) not in (dict, list, tuple):
            break
        path = (*path, part)
        here = _inside(here, part)
    return path


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _keys(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def stripped(kind: Any) -> Any:
    """Return a type without Annotated and None. For a union, return the first model or container."""
    if get_origin(kind) is typing.Annotated:
        return stripped(get_args(kind)[0])
    if get_origin(kind) in (typing.Union, types.UnionType):
        members = [stripped(one) for one in get_args(kind) if one is not type(None)]
        nested = [one for one in members if _is_model(one) or get_origin(one) in (dict, typing.Literal)]
        return nested[0] if nested else members[0]
    return kind


def _inside(kind: Any, part: str | int) -> Any:
    kind = stripped(kind)
    if _is_model(kind):
        for name, field in kind.model_fields.items():
            if part in (name, field.alias):
                return field.annotation
        return None
    arguments = get_args(kind)
    return (arguments[-1] if get_origin(kind) is dict else arguments[0]) if arguments else None


def _type_at(model: type[BaseModel], path: Path) -> Any:
    here: Any = model
    for part in path:
        here = _inside(here, part)
    return stripped(here)


def _in_file(data: Any, path: Path) -> Path:
    """Return the part of ``path`` that is in the file, which may contain a single value instead of a list."""
    for index, part in enumerate(path):
        if not isinstance(data, dict | list):
            return path[:index]
        data = value_at(data, (part,))
    return path
