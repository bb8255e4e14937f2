"""The passwords of the containers: created once, kept, and replaced only on request."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from deploy.passwords import LOGINS, Login, main
from runner.address import Address
from runner.config.config_file import Config
from runner.store.database import location


@pytest.fixture
def logins(tmp_path: Path) -> tuple[Login, ...]:
    made = tuple(Login(one.variable, tmp_path / one.folder.name, one.address) for one in LOGINS)
    for one in made:
        one.folder.mkdir()
    return made


def contents(logins: tuple[Login, ...]) -> list[str]:
    return [(one.folder / name).read_text() for one in logins for name in ("password", "url")]


def test_each_server_has_its_own_random_password_that_no_output_shows(
    logins: tuple[Login, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], {}, logins) == 0
    passwords = [(one.folder / "password").read_text() for one in logins]
    assert len(set(passwords)) == len(logins) == 3
    assert all(len(password) >= 43 for password in passwords)
    printed = "".join(capsys.readouterr())
    assert printed.count(": made") == 3
    assert not any(password in printed for password in passwords)
    # The servers and the services run as other users, and none of them writes.
    assert {path.stat().st_mode & 0o777 for one in logins for path in one.folder.iterdir()} == {0o444}
    assert sorted(path.name for path in logins[0].folder.iterdir()) == ["password", "url"]


def test_a_second_run_keeps_all_passwords(logins: tuple[Login, ...], capsys: pytest.CaptureFixture[str]) -> None:
    main([], {}, logins)
    before = contents(logins)
    capsys.readouterr()
    assert main([], {}, logins) == 0
    assert main(["--replace"], {}, logins) == 0
    assert contents(logins) == before
    assert capsys.readouterr().out.count(": kept") == 6


def test_a_run_that_stopped_between_the_two_files_is_completed(logins: tuple[Login, ...]) -> None:
    main([], {}, logins)
    before = contents(logins)
    for one in logins:
        (one.folder / "url").unlink()
        (one.folder / "password.new").write_text("hal")
    assert main([], {}, logins) == 0
    assert contents(logins) == before


@pytest.mark.parametrize(
    "password", ["simple", "p@ss:w/rd?#%", "with space", "%40", "pässwörd", "'\"$(id)`\\", "x" * 500, "0"]
)
def test_a_given_password_reaches_both_clients_unchanged(logins: tuple[Login, ...], password: str) -> None:
    assert main([], {login.variable: password for login in logins}, logins) == 0
    broker, database, page = ((one.folder / "url").read_text() for one in logins)
    assert [(one.folder / "password").read_text() for one in logins] == [password] * 3
    config = Config.model_validate({"broker": {"url": broker}, "store": {"url": database}})
    assert unquote(urlsplit(config.broker.url[0]).password or "") == password
    assert Address.of(broker).host == "rabbitmq"
    assert location(config.store.url, Path()).password == password
    assert parse_qs(urlsplit(page).query) == {"token": [password]}


def test_a_password_may_be_in_a_file(logins: tuple[Login, ...], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    assert main([], {"RABBITMQ_PASSWORD_FILE": str(tmp_path / "secret")}, logins) == 0
    assert (logins[0].folder / "password").read_text() == "hunter2"


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"RABBITMQ_PASSWORD": "two\nlines"}, "RABBITMQ_PASSWORD has a character that cannot be printed"),
        ({"RABBITMQ_PASSWORD": "tab\t"}, "RABBITMQ_PASSWORD has a character that cannot be printed"),
        ({"POSTGRES_PASSWORD": "\u202e"}, "POSTGRES_PASSWORD has a character that cannot be printed"),
        ({"POSTGRES_PASSWORD": "\udcff"}, "POSTGRES_PASSWORD has a character that cannot be printed"),
        ({"RABBITMQ_PASSWORD_FILE": "/nowhere"}, "'RABBITMQ_PASSWORD_FILE' names a file that cannot be read"),
        ({"RABBITMQ_PASSWORD": "x", "RABBITMQ_PASSWORD_FILE": "/nowhere"}, "are both set"),
    ],
)
def test_an_unusable_password_is_refused_in_one_line(
    logins: tuple[Login, ...], variables: dict[str, str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], variables, logins) == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("passwords: ")
    assert problem in line
    assert not any(value in line for name, value in variables.items() if not name.endswith("_FILE") and len(value) > 1)


def test_another_password_than_the_server_s_is_refused_without_replace(
    logins: tuple[Login, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    main([], {}, logins)
    before = contents(logins)
    assert main([], {"RABBITMQ_PASSWORD": "hunter2"}, logins) == 78
    assert contents(logins) == before
    assert capsys.readouterr().err == (
        "passwords: RABBITMQ_PASSWORD is not the password of the server; set the new password on the server and run"
        " this with --replace (docs/containers.md), or unset the variable\n"
    )
    assert main(["--replace"], {"RABBITMQ_PASSWORD": "hunter2"}, logins) == 0
    assert contents(logins) == ["hunter2", logins[0].address.format("hunter2"), *before[2:]]
    assert main([], {"RABBITMQ_PASSWORD": "hunter2"}, logins) == 0


@pytest.mark.parametrize("how", ["missing", "a file", "full"])
def test_a_volume_that_cannot_be_written_is_named(
    logins: tuple[Login, ...], how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = logins[0].folder
    if how == "full":
        monkeypatch.setattr(os, "fsync", _no_room)
    else:
        folder.rmdir()
    if how == "a file":
        folder.touch()
    assert main([], {}, logins) == 78
    assert capsys.readouterr().err.startswith(f"passwords: {folder}: cannot be written, ")
    assert not (folder / "password").exists()


def _no_room(_: int) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("content", [b"\xff", b"p\xe4ss", b"\xc3", b"\xed\xa0\x80", b"hunter2\xf5"])
@pytest.mark.parametrize("variables", [{}, {"RABBITMQ_PASSWORD": "hunter2"}])
def test_a_password_of_the_server_that_is_not_text_is_kept_and_named(
    logins: tuple[Login, ...], content: bytes, variables: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = logins[0].folder / "password"
    path.write_bytes(content)
    assert main([], variables, logins) == 78
    assert capsys.readouterr().err == f"passwords: {path}: not UTF-8; write the password of the server into it\n"
    assert path.read_bytes() == content
