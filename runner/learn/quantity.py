"""An expected number: an exact value or a range."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

_COMPARISON = re.compile(r"(>=|<=|>|<)\s*(\d+(?:\.\d+)?)")
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)")
_OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_WORDS = {">": "more than", ">=": "at least", "<": "fewer than", "<=": "at most"}
_ALLOWED = "allowed: a number, such as 3, or a range, such as '>0', '<=60' or '1..9'"


class Quantity:
    """A number, a comparison such as ``>0``, or a range such as ``1..9`` with both ends."""

    def __init__(self, value: object) -> None:
        """Raises ValueError for any other value."""
        self.text = str(value)
        self._test: Callable[[float], bool]
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._test, self.words = (lambda number: number == value), self.text
        elif isinstance(value, str) and (found := _COMPARISON.fullmatch(value)):
            compare, limit = _OPERATORS[found[1]], float(found[2])
            self._test, self.words = (lambda number: compare(number, limit)), f"{_WORDS[found[1]]} {found[2]}"
        elif isinstance(value, str) and (found := _RANGE.fullmatch(value)):
            low, high = float(found[1]), float(found[2])
            self._test, self.words = (lambda number: low <= number <= high), f"{found[1]} to {found[2]}"
        else:
            raise ValueError(f"not a quantity; {_ALLOWED}")

    def matches(self, number: float) -> bool:
        """Return True if a number is as expected."""
        return self._test(number)

    def __str__(self) -> str:
        return self.words


#: The type of a model's field that contains a quantity.
AnyQuantity = Annotated[
    Quantity,
    PlainValidator(Quantity),
    PlainSerializer(str),
    WithJsonSchema(
        {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^(>=|<=|>|<)\s*[0-9.]+$|^[0-9.]+\.\.[0-9.]+$"}]}
    ),
]
