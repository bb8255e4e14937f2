"""The metrics and labels in an expression of Prometheus' query language, looked up in an exposition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import promql_parser
from prometheus_client import Metric
from prometheus_client.openmetrics import parser

#: The labels that Prometheus itself adds to each series.
TARGET = frozenset({"job", "instance"})
#: For each series name, the names of its labels.
Series = Mapping[str, frozenset[str]]


def families_of(exposition: str) -> list[Metric]:
    """Return the metrics in a text in the format OpenMetrics. Raises ValueError if the text is invalid."""
    parse: Any = parser.text_string_to_metric_families  # the client declares no types for it
    return list(parse(exposition))


def series_of(exposition: str) -> dict[str, frozenset[str]]:
    """Return all series in an exposition, with the series that Prometheus adds for each target."""
    found = {"up": TARGET}
    for family in families_of(exposition):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, TARGET) | set(sample.labels)
    return found


def labels_of(text: str, series: Series) -> frozenset[str]:
    """Return the labels of an expression's result. Raises AssertionError for an unknown metric or label."""
    return _labels(promql_parser.parse(text), series, text)


def _labels(expression: Any, series: Series, text: str) -> frozenset[str]:
    match type(expression).__name__:
        case "NumberLiteral" | "StringLiteral":
            return frozenset()
        case "VectorSelector":
            assert expression.name in series, f"unknown metric {expression.name!r} in {text}"
            labels = series[expression.name]
            for one in expression.matchers.matchers:
                _check({one.name}, labels, text)
            return labels
        case "MatrixSelector":
            return _labels(expression.vector_selector, series, text)
        case "ParenExpr" | "UnaryExpr":
            return _labels(expression.expr, series, text)
        case "Call":
            parts = [_labels(one, series, text) for one in expression.args]
            if expression.func.name in ("absent", "vector"):
                return frozenset()
            if expression.func.name == "histogram_quantile":
                _check({"le"}, parts[-1], text)
                return parts[-1] - {"le"}
            assert expression.func.name in ("rate", "increase", "deriv"), f"unknown function in {text}"
            return parts[0]
        case "AggregateExpr":
            inner = _labels(expression.expr, series, text)
            if expression.modifier is None:
                return frozenset()
            kept = set(expression.modifier.labels)
            _check(kept, inner, text)
            assert "by" in str(expression.modifier), f"an aggregation without labels in {text}"
            return frozenset(kept)
        case "BinaryExpr":
            left, right = _labels(expression.lhs, series, text), _labels(expression.rhs, series, text)
            matching = None if expression.modifier is None else expression.modifier.matching
            if matching is not None:
                _check(set(matching.labels), left & right, text)
            elif left and right:
                assert left == right or str(expression.op) == "or", f"two sides with different labels in {text}"
            is_number = type(expression.rhs).__name__ == "NumberLiteral"
            return left & right if str(expression.op) == "or" and not is_number else left
    raise AssertionError(f"a {type(expression).__name__} in {text}")


def _check(names: set[str], labels: frozenset[str], text: str) -> None:
    assert names <= labels, f"unknown labels {sorted(names - labels)} in {text}; known: {sorted(labels)}"
