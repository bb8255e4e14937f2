"""Pydantic's errors in the words of this project, for any model of a plugin's options."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from runner.config.document import Document
from runner.config.validation import validate, validate_document


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    host: str = "localhost"
    port: int = Field(25, ge=1, le=65535)


class Options(BaseModel):
    size: int = 1
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.5
    amount: Decimal | None = None
    is_on: bool = False
    mode: Literal["log", "smtp"] = "log"
    colour: Colour = Colour.RED
    inner: Inner | None = None
    names: list[Annotated[str, Field(max_length=3)]] = []
    either: int | list[int] = 1
    key: SecretStr = SecretStr("")
    by_name: dict[str, Inner] = {}
    renamed: int = Field(1, alias="otherName")


def faults(data: Any, model: type[BaseModel] = Options) -> list[tuple[Any, str]]:
    _, found = validate(model, data)
    return [(path, text("VALUE")) for path, text in found]


@pytest.mark.parametrize(
    ("data", "path", "text"),
    [
        ({"size": "x"}, ("size",), "not a whole number, VALUE; allowed: a whole number"),
        ({"size": 1.5}, ("size",), "not a whole number, VALUE; allowed: a whole number"),
        ({"rate": "x"}, ("rate",), "not a number, VALUE; allowed: a number"),
        ({"rate": 0}, ("rate",), "out of range, VALUE; allowed: more than 0"),
        ({"rate": 1}, ("rate",), "out of range, VALUE; allowed: less than 1"),
        ({"amount": "x"}, ("amount",), "not a number, VALUE; allowed: a number"),
        ({"is_on": "perhaps"}, ("is_on",), "not true or false, VALUE; allowed: true, false"),
        ({"mode": "smpt"}, ("mode",), "unknown value VALUE; did you mean 'smtp'?"),
        ({"mode": "xyz"}, ("mode",), "unknown value VALUE; allowed: log, smtp"),
        ({"inner": {"prot": 1}}, ("inner", "prot"), "unknown key 'prot'; did you mean 'port'?"),
        ({"inner": {"port": 0}}, ("inner", "port"), "out of range, VALUE; allowed: 1 or more"),
        ({"inner": 5}, ("inner",), "not a mapping, VALUE; allowed: key: value pairs"),
        ({"names": "x"}, ("names",), "not a list, VALUE; allowed: a list, such as [a, b]"),
        ({"names": ["a", "long"]}, ("names", 1), "too long, VALUE; allowed: 3 characters or fewer"),
        ({"by_name": {"x": {"hots": 1}}}, ("by_name", "x", "hots"), "unknown key 'hots'; did you mean 'host'?"),
        ({"siez": 1}, ("siez",), "unknown key 'siez'; did you mean 'size'?"),
        ({"otherNam": 1}, ("otherNam",), "unknown key 'otherNam'; did you mean 'otherName'?"),
        ({"key": 5}, ("key",), "not text, VALUE; allowed: text (in quotes, if it looks like a number)"),
    ],
)
def test_each_kind_of_error_has_its_words(data: Any, path: Any, text: str) -> None:
    assert faults(data) == [(path, text)]


def test_an_enum_s_values_are_named() -> None:
    assert faults({"colour": "gren"}) == [(("colour",), "unknown value VALUE; did you mean 'green'?")]


def test_a_value_that_fits_none_of_several_types_is_one_error() -> None:
    assert [path for path, _ in faults({"either": "x"})] == [("either",)]


def test_keys_are_refused_even_if_the_model_ignores_them_but_not_if_it_allows_them() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

    class Silent(BaseModel):
        pass

    assert faults({"other": 1}, Open) == []
    assert [path for path, _ in faults({"other": 1}, Silent)] == [("other",)]


def test_a_mistyped_key_is_reported_beside_a_wrong_value() -> None:
    assert {path for path, _ in faults({"size": "x", "siez": 1})} == {("size",), ("siez",)}


def test_a_mistyped_key_deep_inside_is_an_error_even_if_the_inner_model_ignores_it() -> None:
    class Deep(BaseModel):
        host: str = ""

    class Outer(BaseModel):
        inner: Deep = Deep()

    assert faults({"inner": {"hots": "x"}}, Outer) == [(("inner", "hots"), "unknown key 'hots'; did you mean 'host'?")]


def test_an_error_of_a_model_s_own_check_is_reported_without_a_value() -> None:
    class Pair(BaseModel):
        left: int = 0
        right: int = 0

        @model_validator(mode="after")
        def check(self) -> Pair:
            if self.left > self.right:
                raise ValueError("left is over right; swap them")
            return self

    assert faults({"left": 1}, Pair) == [((), "left is over right; swap them")]


def test_errors_of_a_document_name_lines_and_variables() -> None:
    document = Document("config.yaml", 'size: 3\nrate: "${SECRET}"\n', {"SECRET": "hunter2"})
    options = validate_document(Options, document)
    assert [str(fault) for fault in document.faults] == [
        "config.yaml:2: rate: not a number, '${SECRET}'; allowed: a number"
    ]
    assert options == Options(size=3), "the rest remains for further checks"


def test_an_unset_variable_causes_no_further_error() -> None:
    document = Document("config.yaml", 'rate: "${MISSING}"\n', {})
    validate_document(Options, document)
    assert len(document.faults) == 1


def test_a_valid_document_becomes_a_model() -> None:
    document = Document("config.yaml", "size: 3\ninner: {port: 587}\n", {})
    options = validate_document(Options, document)
    assert options is not None
    assert options.inner == Inner(port=587)
