"""A template sandbox that limits the work of a template, whatever the event contains.

Jinja2's sandbox prevents a template from running code, but not from computing ``'a' * n`` with a huge ``n`` from an
event. This sandbox counts the characters in each result before the result is created. A template that would create more
than ``MAX_WORK`` characters fails. Each loop iteration is counted too, so the time is also limited.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

#: The maximum number of characters that a template may create, including all intermediate results.
MAX_WORK = 1_000_000
#: The maximum size of an integer in bits, and of a decimal number in digits before or after the decimal point.
MAX_BITS, MAX_DIGITS = 4096, 1000
#: The filters and string methods whose results may be larger than their arguments.
GROWING_FILTERS = frozenset(
    {"batch", "center", "format", "indent", "join", "pprint", "replace", "slice", "tojson", "urlize", "wordwrap"}
)
GROWING_METHODS = frozenset(
    {
        "center",
        "expandtabs",
        "format",
        "format_map",
        "join",
        "ljust",
        "replace",
        "rjust",
        "to_bytes",
        "translate",
        "zfill",
    }
)
#: A placeholder whose width is an argument, such as ``%*d`` or ``{:{}}``.
_GIVEN_WIDTH = re.compile(r"%[^a-zA-Z%]*\*|\{[^{}]*\{")
_work = threading.local()


class TooMuchWork(jinja2.TemplateError):
    """The error for a template that exceeds a limit in this module."""


def begin(values: Mapping[str, Any]) -> None:
    """Reset the current thread's count. Raises TooMuchWork if the values themselves exceed the limit."""
    _work.left = MAX_WORK
    _take(_size(values))


def _take(characters: int) -> None:
    # Jinja2 computes constants when it reads a template, before the first ``begin``.
    _work.left = getattr(_work, "left", MAX_WORK) - characters
    if _work.left < 0:
        _work.left = MAX_WORK
        raise TooMuchWork(f"the template creates too much text; allowed: {MAX_WORK} characters")


def _size(value: Any) -> int:
    """Return the number of characters in a value. Numbers and other objects count as one character."""
    if isinstance(value, str | bytes):
        return 1 + len(value)
    if isinstance(value, Decimal):
        if value.is_finite() and abs(value.adjusted()) > MAX_DIGITS:
            raise TooMuchWork(f"a number is too large or too small, {value}; allowed: {MAX_DIGITS} digits")
        return 1
    total = 1
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset | range):
        for one in value:
            total += _size(one)
            if total > MAX_WORK:
                break
    return total


def _times(argument: Any) -> int:
    """Return the largest factor by which an argument can enlarge a value."""
    if isinstance(argument, str):
        return max(1, len(argument))
    if isinstance(argument, int):
        return max(1, abs(argument))
    if isinstance(argument, Mapping):
        return max((_times(one) for one in argument.values() if isinstance(one, str)), default=1)
    return 1


def _take_format(text: str, arguments: Any) -> None:
    """Count the characters of a format string's largest possible result."""
    widths = sum(int(number[:9]) for number in re.findall("[0-9]+", text))
    if _GIVEN_WIDTH.search(text):
        widths += sum(abs(one) for one in _flat(arguments) if isinstance(one, int))
    _take(len(text) + widths + _size(arguments) * (1 + text.count("%") + text.count("{")))


def _flat(arguments: Any) -> Iterator[Any]:
    if isinstance(arguments, Mapping):
        arguments = list(arguments.values())
    for one in arguments if isinstance(arguments, list | tuple) else [arguments]:
        yield from _flat(one) if isinstance(one, list | tuple | Mapping) else [one]


def _take_growth(name: str, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    if name.startswith("format"):
        _take_format(str(value), [*arguments, *named.values()])
        return
    work = _size(value)
    for argument in (*arguments, *named.values()):
        work *= _times(argument)
    _take(work + _size(arguments))


def _guarded(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that counts the characters of its result before creating the result."""
    skipped = 1 if hasattr(make, "jinja_pass_arg") else 0

    @wraps(make)
    def guarded(*arguments: Any, **named: Any) -> Any:
        before, (value, *others) = arguments[:skipped], arguments[skipped:]
        if isinstance(value, Iterator):
            value = list(value)
        _take_growth(name, value, tuple(others), named)
        return make(*before, value, *others, **named)

    return guarded


def _joined(values: list[Any]) -> str:
    texts = [str(value) for value in values]
    _take(_size(texts))
    return "".join(texts)


def _counted(values: Iterable[Any], characters: int) -> Iterator[Any]:
    for value in values:
        _take(1 + characters)
        yield value


def _shown(value: Any) -> Any:
    """Count the characters of a value that is inserted into the text, and return the value."""
    _take(_size(value))
    return value


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox with the limits in this module."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **settings: Any) -> None:
        super().__init__(finalize=_shown, **settings)
        del self.globals["lipsum"]
        self.filters.update({name: _guarded(name, self.filters[name]) for name in GROWING_FILTERS})
        self.filters.update({"_joined": _joined, "_counted": _counted})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator. Raises TooMuchWork if the result would exceed a limit."""
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * max(0, right) if operator == "**" else left.bit_length() + right.bit_length()
            if bits > MAX_BITS:
                raise TooMuchWork(f"a number is too large; allowed: {MAX_BITS} bits")
        elif operator == "%" and isinstance(left, str):
            _take_format(left, right)
        elif operator == "*":
            _take(_size(left) * _times(right) if isinstance(right, int) else _size(right) * _times(left))
        else:
            _take(_size(left) + _size(right))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - jinja2's names
        """Call a function that a template uses. Raises TooMuchWork if the result would exceed a limit."""
        method = getattr(__obj, "__wrapped__", __obj)
        name = getattr(method, "__name__", "")
        if name in GROWING_METHODS:
            _take_growth(name, getattr(method, "__self__", ""), args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        _Counting().visit(template)
        template.set_environment(self)
        return template


class _Counting(NodeTransformer):
    """A transformer that adds counting filters to loops and to ``a ~ b``, which a sandbox cannot intercept."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2's name
        self.generic_visit(node)
        characters = sum(len(text.data) for part in node.body for text in part.find_all(nodes.TemplateData))
        node.iter = _filtered("_counted", node.iter, nodes.Const(characters))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - jinja2's name
        self.generic_visit(node)
        return _filtered("_joined", nodes.List(node.nodes, lineno=node.lineno))


def _filtered(name: str, value: Any, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(arguments), [], None, None, lineno=value.lineno)
