"""Templates whose work is bounded, whatever a template or an event asks for.

Jinja2's sandbox keeps a template from running code, but not from ``'a' * n`` with an ``n`` that an event brought.
Here all that can grow is counted in characters before it is made, and a template that wants more than ``MAX_WORK`` of
them is not filled in. Time is bounded by that too, because each turn of a loop counts.
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

#: Characters that one template may make, those in between included.
MAX_WORK = 1_000_000
#: Bits of a whole number, and digits before or behind the point of a fraction.
MAX_BITS, MAX_DIGITS = 4096, 1000
#: Filters, and methods of texts, whose result may be larger than what they are given.
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
#: A width that is an argument: of ``%*d``, and of ``{:{}}``.
_GIVEN_WIDTH = re.compile(r"%[^a-zA-Z%]*\*|\{[^{}]*\{")
_work = threading.local()


class TooMuchWork(jinja2.TemplateError):
    """A template that wants to make more than it may."""


def begin(values: Mapping[str, Any]) -> None:
    """Count from zero, on this thread. Raises TooMuchWork for values that are themselves too much."""
    _work.left = MAX_WORK
    _take(_size(values))


def _take(characters: int) -> None:
    # Constants are computed while a template is read, before any count has begun.
    _work.left = getattr(_work, "left", MAX_WORK) - characters
    if _work.left < 0:
        _work.left = MAX_WORK
        raise TooMuchWork(f"makes too much text; allowed: {MAX_WORK} characters")


def _size(value: Any) -> int:
    """Return the characters that a value holds; every number or other value counts as one or its digits."""
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
    """Return how many times as much an argument can make of what it is applied to."""
    if isinstance(argument, str):
        return max(1, len(argument))
    if isinstance(argument, int):
        return max(1, abs(argument))
    if isinstance(argument, Mapping):
        return max((_times(one) for one in argument.values() if isinstance(one, str)), default=1)
    return 1


def _take_format(text: str, arguments: Any) -> None:
    """Count what a text with placeholders can come to."""
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
    """A filter that counts what it makes before it does."""
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
    """A value on its way into the text."""
    _take(_size(value))
    return value


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox with the bounds of this module."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **settings: Any) -> None:
        super().__init__(finalize=_shown, **settings)
        del self.globals["lipsum"]
        self.filters.update({name: _guarded(name, self.filters[name]) for name in GROWING_FILTERS})
        self.filters.update({"_joined": _joined, "_counted": _counted})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute what an operator makes, if that is not too much."""
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
        """Call what a template calls, if that makes not too much."""
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
    """Passes through filters what no sandbox can intercept: loops, and ``a ~ b``."""

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
