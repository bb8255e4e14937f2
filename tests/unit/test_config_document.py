"""YAML text as plain values: the meaning of the text, the line of each value, and refused texts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.config.document import MAX_BYTES, Document


def document(text: str, **environment: str) -> Document:
    return Document("config.yaml", text, environment)


def faults(text: str, **environment: str) -> list[str]:
    return [str(fault) for fault in document(text, **environment).faults]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("8000", 8000),
        ("-3", -3),
        ("007", 7),
        ("0x1F", 31),
        ("0o17", 15),
        ("0o9", "0o9"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("0.1", 0.1),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.2.3", "1.2.3"),
        ("2024-01-01", "2024-01-01"),
        ("'8000'", "8000"),
        ('"true"', "true"),
        ("=", "="),
        ("\u0663", "\u0663"),
    ],
)
def test_plain_words_have_their_meaning_of_yaml_1_2(text: str, value: object) -> None:
    found = document(f"key: {text}").data["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "~"])
def test_an_empty_file_is_an_empty_mapping(text: str) -> None:
    one = document(text)
    assert (one.data, one.faults) == ({}, [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${HOST}", "example.com"),
        ("amqp://${HOST}:5672/", "amqp://example.com:5672/"),
        ('"${PORT}"', 8000),
        ("'${PORT}'", "8000"),
        ('"${PORT}1"', 80001),
        ('"${FLAG}"', True),
        ('"${NONE}"', "null"),
        ('"${MISSING:-5}"', 5),
        ('"${EMPTY:-5}"', 5),
        ('"${MISSING:-}"', ""),
        ('"${MISSING:-a b}"', "a b"),
        ("$$", "$"),
        ("$${HOST}", "${HOST}"),
        ('"$$5"', "$5"),
        ("$HOST", "$HOST"),
        ("${1}", "${1}"),
    ],
)
def test_variables_are_expanded_in_values(text: str, value: object) -> None:
    one = document(f"key: {text}", HOST="example.com", PORT="8000", FLAG="true", NONE="null", EMPTY="")
    assert one.faults == []
    assert one.data["key"] == value
    assert type(one.data["key"]) is type(value)


def test_a_variable_s_value_is_not_expanded_again() -> None:
    assert document("key: ${A}", A="${B}", B="x").data == {"key": "${B}"}


def test_a_variable_cannot_add_keys() -> None:
    assert document('key: "${A}"', A="x\nother: 1").data == {"key": "x\nother: 1"}


def test_keys_are_not_expanded() -> None:
    assert document("'${A}': 1", A="x").data == {"${A}": 1}


def test_an_unset_variable_is_one_error_however_often_a_value_uses_it() -> None:
    found = faults("a: 1\nkey: ${NOT_THERE}")
    assert found == [
        "config.yaml:2: key: environment variable 'NOT_THERE' is not set; set it, or give a default:"
        " ${NOT_THERE:-value}"
    ]
    assert document("key: ${NOT_THERE}").is_unknown(("key",))


def test_a_value_from_a_variable_is_shown_by_the_variable_s_name() -> None:
    one = document("key: a${SECRET}b\nother: plain", SECRET="hunter2")
    assert one.data["key"] == "ahunter2b"
    assert one.shown(("key",)) == "'a${SECRET}b'"
    assert one.shown(("other",)) == "'plain'"


def test_each_value_has_its_line_and_a_missing_value_has_that_of_its_parent() -> None:
    one = document("# a comment\na:\n  b:\n    - 1\n    - {c: 2,\n       d: 3}\n")
    assert one.line(("a",)) == 2
    assert one.line(("a", "b", 0)) == 4
    assert one.line(("a", "b", 1, "c")) == 5
    assert one.line(("a", "b", 1, "d")) == 6
    assert one.line(("a", "b", 1, "missing", "deeper")) == 5
    assert one.line(("nowhere",)) == 1


def test_the_first_of_two_equal_keys_counts_and_the_second_is_an_error_on_its_own_line() -> None:
    one = document("a: 1\nb: 2\na: 3\n")
    assert one.data == {"a": 1, "b": 2}
    assert [str(fault) for fault in one.faults] == [
        "config.yaml:3: a: duplicate key 'a', first on line 1; keep one of them"
    ]
    assert one.line(("a",)) == 1


def test_a_merge_key_is_a_key_like_any_other() -> None:
    assert document("a: {<<: {b: 1}}").data == {"a": {"<<": {"b": 1}}}


def test_an_alias_repeats_the_value_of_its_anchor() -> None:
    one = document("a: &x [1, 2]\nb: *x\n")
    assert (one.data, one.faults) == ({"a": [1, 2], "b": [1, 2]}, [])


def test_an_alias_to_its_own_container_is_an_error() -> None:
    assert faults("a: &x\n  b: [*x]\n") == [
        "config.yaml:2: a.b.0: the alias refers to a value that contains the alias; allowed: aliases to other values"
    ]


def test_a_billion_laughs_are_refused_early() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    one = document("\n".join(lines))
    assert [str(fault) for fault in one.faults] == [
        "config.yaml:1: too many values after the expansion of aliases; allowed: 100000"
    ]
    assert one.data == {}


@pytest.mark.parametrize("tag", ["!!python/object:os.system", "!!python/name:os.system", "!local", "!<x:y>"])
def test_a_tag_is_an_error_and_runs_nothing(tag: str) -> None:
    one = document(f"key: {tag} word")
    assert one.data == {"key": None}
    assert len(one.faults) == 1
    assert "is not allowed; write the value without a tag" in one.faults[0].text


def test_a_file_larger_than_a_configuration_is_not_read() -> None:
    assert faults("#" * (MAX_BYTES + 1)) == [
        f"config.yaml:1: the file has {MAX_BYTES + 1} bytes; allowed: up to {MAX_BYTES} bytes"
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1, 2\nb: 3\n", 2),
        ("a: 1\nb: 'open\nc: 3\n", 2),
        ("a: 1\n b: 2\n", 2),
        ("a: *nowhere\n", 1),
        ("a: [*.created]\n", 1),
        ("a: 1\n---\nb: 2\n", 2),
        ("a:\n\tb: 1\n", 2),
        ("a: %x\n", 1),
        ("a: 1\nb: `x`\n", 2),
        ("a: 1\n}\n", 2),
    ],
)
def test_invalid_yaml_is_one_error_at_its_line(text: str, line: int) -> None:
    one = document(text)
    assert [fault.line for fault in one.faults] == [line]
    assert one.faults[0].text.startswith("not YAML, ")
    assert one.data == {}


@pytest.mark.parametrize(("text", "lines"), [("a: [", 1), ("a: [1,\n", 1), ("a: {b: 1\n\n\n", 3), ("a: 1\nb: 'x", 2)])
def test_an_unclosed_value_is_reported_on_a_line_that_exists(text: str, lines: int) -> None:
    assert 1 <= document(text).faults[0].line <= lines


def test_a_control_character_is_an_error() -> None:
    assert faults("a: \x00b") == ["config.yaml:1: unacceptable character #x0000: control characters are not allowed"]


def test_a_key_that_is_a_list_is_an_error() -> None:
    assert faults("a:\n  ? [b]\n  : c\n") == ["config.yaml:1: a: the key is a list or a mapping; allowed: text"]


def test_a_number_with_thousands_of_digits_is_no_crash() -> None:
    document("key: " + "1" * 5000)


def test_a_list_nested_hundreds_of_levels_deep_is_an_error_and_no_crash() -> None:
    found = faults("key:\n  " + "- " * 1500 + "x")
    assert len(found) == 1


@settings(deadline=None)
@given(st.text())
def test_arbitrary_text_never_raises(text: str) -> None:
    one = document(text)
    assert isinstance(one.data, dict)
    for fault in one.faults:
        assert "\n" not in str(fault)


_FRAGMENTS = st.sampled_from(
    ["a", "b: ", "- ", "\n", "  ", "{", "}", "[", "]", ", ", ": ", "? ", "&x ", "*x", "!t ", "!!python/none ", "'", '"',
     "|", ">", "#", "${A}", "${B:-1}", "$", "<<: ", "---\n", "...\n", "%", "\t", "1", "1e9", "0x", "~", "@", "`"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(_FRAGMENTS, max_size=30).map("".join))
def test_scraps_of_yaml_never_raise(text: str) -> None:
    one = document(text, A="x: [", B="")
    assert isinstance(one.data, dict)


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet="ab $1:#'\"{}[]-", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1), _PLAIN, max_size=4))
def test_json_has_the_same_meaning_when_read_as_yaml(data: dict[str, object]) -> None:
    one = document(json.dumps(data).replace("$", "$$"))
    assert one.faults == []
    assert one.data == data or "$" in json.dumps(data)
