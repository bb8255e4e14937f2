"""Variables in YAML whose values are in files that the environment names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.config.document import Document
from runner.config.variable import MAX_BYTES, find_variable

SECRET = "hunter2"


def value_of(path: Path, content: bytes) -> str | None:
    path.write_bytes(content)
    return find_variable("URL", {"URL_FILE": str(path)})


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b"hunter2\n\n", "hunter2\n"),
        (b"\nhunter2", "\nhunter2"),
        (b" hunter2 ", " hunter2 "),
        (b"two\nlines\n", "two\nlines"),
        (b"${OTHER}", "${OTHER}"),
        ("pässwörd".encode(), "pässwörd"),
        (b"x" * MAX_BYTES, "x" * MAX_BYTES),
    ],
)
def test_a_variable_has_the_content_of_the_file_without_one_newline(tmp_path: Path, content: bytes, value: str) -> None:
    assert value_of(tmp_path / "url", content) == value


@pytest.mark.parametrize(
    ("environment", "value"),
    [
        ({}, None),
        ({"URL": ""}, None),
        ({"URL_FILE": ""}, None),
        ({"URL": "", "URL_FILE": ""}, None),
        ({"URL": "plain"}, "plain"),
        ({"URL": "plain", "URL_FILE": ""}, "plain"),
        ({"URLS_FILE": "/nowhere"}, None),
    ],
)
def test_without_a_file_only_the_environment_counts(environment: dict[str, str], value: str | None) -> None:
    assert find_variable("URL", environment) == value


def test_a_file_takes_precedence_over_an_empty_variable(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(SECRET)
    assert find_variable("URL", {"URL": "", "URL_FILE": str(tmp_path / "url")}) == SECRET


def test_a_link_to_the_file_is_followed(tmp_path: Path) -> None:
    # Kubernetes mounts each key of a secret as a link.
    (tmp_path / "data").write_text(SECRET)
    (tmp_path / "url").symlink_to("data")
    assert find_variable("URL", {"URL_FILE": str(tmp_path / "url")}) == SECRET


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "names an empty file, 'PATH'; write the value into the file, or unset the variable"),
        (b"\n", "names an empty file, 'PATH'; write the value into the file, or unset the variable"),
        (b"\r\n", "names an empty file, 'PATH'; write the value into the file, or unset the variable"),
        (b"x" * (MAX_BYTES + 1), "names a file that is too large, 'PATH'; allowed: 65536 bytes"),
        (b"hunter2\xff", "names a file that is not UTF-8, 'PATH'; allowed: UTF-8 text"),
        ("hunter2".encode("utf-16"), "names a file that is not UTF-8, 'PATH'; allowed: UTF-8 text"),
        (b"hunter2\xed\xa0\x80", "names a file that is not UTF-8, 'PATH'; allowed: UTF-8 text"),
        (b"hunter2\0", "names a file with a NUL or a byte order mark, 'PATH'; allowed: text with neither"),
        (b"\0", "names a file with a NUL or a byte order mark, 'PATH'; allowed: text with neither"),
        (
            b"\xef\xbb\xbfhunter2",
            "names a file with a NUL or a byte order mark, 'PATH'; allowed: text with neither",
        ),
    ],
)
def test_a_file_without_a_value_is_an_error_that_does_not_show_its_content(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "url"
    with pytest.raises(ValueError, match="environment variable 'URL_FILE'") as caught:
        value_of(path, content)
    assert str(caught.value) == f"environment variable 'URL_FILE' {problem.replace('PATH', str(path))}"
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("{folder}/none", "No such file or directory"),
        ("{folder}/none/url", "No such file or directory"),
        ("{folder}", "Is a directory"),
        ("{folder}/loop", "Too many levels of symbolic links"),
        ("{folder}/file/url", "Not a directory"),
        ("/{long}", "File name too long"),
        ("/proc/self/mem", "Input/output error"),
    ],
)
def test_an_unreadable_file_is_named_with_the_reason(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    named = path.format(folder=tmp_path, long="x" * 300)
    with pytest.raises(ValueError, match="cannot be read") as caught:
        find_variable("URL", {"URL_FILE": named})
    assert str(caught.value) == (
        f"environment variable 'URL_FILE' names a file that cannot be read, {named!r}, {reason};"
        " allowed: a file that this user can read"
    )


def test_a_file_without_permission_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "url").touch(0o000)
    user = os.geteuid()
    if user == 0:  # root reads every file
        os.seteuid(65534)
    try:
        with pytest.raises(ValueError, match=r"cannot be read, .*, Permission denied"):
            find_variable("URL", {"URL_FILE": str(tmp_path / "url")})
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom"])
def test_an_endless_device_is_too_large(path: str) -> None:
    with pytest.raises(ValueError, match=f"too large, {path!r}"):
        find_variable("URL", {"URL_FILE": path})


@pytest.mark.parametrize("path", ["url", "./url", "~/url", "amqp://shop:hunter2@broker/", "hunter2", " /url"])
def test_a_relative_path_is_not_shown_because_it_may_be_the_value(path: str) -> None:
    with pytest.raises(ValueError, match="is not an absolute path") as caught:
        find_variable("URL", {"URL_FILE": path})
    assert path.strip() not in str(caught.value)


def test_a_value_in_two_places_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(SECRET)
    with pytest.raises(ValueError, match="are both set") as caught:
        find_variable("URL", {"URL": SECRET, "URL_FILE": str(tmp_path / "url")})
    assert str(caught.value) == "environment variables 'URL' and 'URL_FILE' are both set; unset one of them"


def test_a_value_from_a_file_has_the_type_of_its_text_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("8000\n")
    (tmp_path / "url").write_text(SECRET)
    environment = {"PORT_FILE": str(tmp_path / "port"), "URL_FILE": str(tmp_path / "url")}
    text = 'port: "${PORT}"\nurl: "amqp://${URL:-guest}@broker/"\n'
    document = Document("config.yaml", text, environment)
    assert document.faults == []
    assert document.data == {"port": 8000, "url": "amqp://hunter2@broker/"}
    assert document.shown(("url",)) == "'amqp://${URL:-guest}@broker/'"


def test_a_wrong_file_is_an_error_even_if_there_is_a_default(tmp_path: Path) -> None:
    environment = {"A_FILE": str(tmp_path / "none"), "B": "x", "B_FILE": "/dev/null", "C_FILE": "/dev/null"}
    document = Document("config.yaml", "a: ${A:-x}\nb: [1, '${B}']\nc: x${C}y\n", environment)
    assert [str(fault).split(": environment")[0] for fault in document.faults] == [
        "config.yaml:1: a", "config.yaml:2: b.1", "config.yaml:3: c",
    ]  # fmt: skip
    assert all(document.is_unknown(path) for path in (("a",), ("b", 1), ("c",)))
