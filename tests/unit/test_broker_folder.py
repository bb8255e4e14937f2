"""The files of a private node."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

from runner.address import Login
from runner.broker.folder import Folder
from runner.broker.port import Ports

PORTS = Ports(7000, 17000, 27000)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    one = Folder(tmp_path / "broker")
    one.make()
    return one


def _free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = shutil._ntuple_diskusage(free, 0, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


def _conf(folder: Folder) -> list[str]:
    return (folder.path / "rabbitmq.conf").read_text().splitlines()


def test_the_node_name_depends_only_on_the_folder(tmp_path: Path):
    name = Folder(tmp_path / "a").node_name

    assert name == Folder(tmp_path / "x" / ".." / "a").node_name
    assert name != Folder(tmp_path / "b").node_name
    assert name.endswith("@localhost")


def test_only_the_owner_may_read_the_files(folder: Folder):
    folder.configure(PORTS, "127.0.0.1", Login())

    for path in (folder.path, *folder.path.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_the_cookie_and_plugins_of_earlier_starts_are_kept(folder: Folder):
    cookie = (folder.home / ".erlang.cookie").read_text()
    folder.enabled_plugins_file.write_text("[rabbitmq_management, rabbitmq_shovel].")

    folder.make()

    assert (folder.home / ".erlang.cookie").read_text() == cookie
    assert folder.plugins() == ["rabbitmq_management", "rabbitmq_shovel"]


def test_listeners_are_on_the_given_loopback_address(folder: Folder):
    folder.configure(PORTS, "::1", Login())

    assert {"listeners.tcp.1 = ::1:7000", "management.tcp.ip = ::1", "management.tcp.port = 17000"} <= set(
        _conf(folder)
    )


def test_no_file_contains_the_password(folder: Folder):
    folder.configure(PORTS, "127.0.0.1", Login("anna", "topsecret", "shop"))

    texts = [path.read_text() for path in folder.path.rglob("*") if path.is_file()]
    assert not any("topsecret" in text for text in texts)
    definitions = json.loads((folder.path / "definitions.json").read_text())
    assert definitions["users"][0]["name"] == "anna"
    assert definitions["vhosts"] == [{"name": "shop"}]


@pytest.mark.parametrize(("free", "limit"), [(50_000_000_000, 1_000_000_000), (600_000_000, 300_000_000)])
def test_the_disk_limit_is_lower_on_a_disk_that_is_nearly_full(folder: Folder, monkeypatch, free: int, limit: int):
    _free(monkeypatch, free)

    folder.configure(PORTS, "127.0.0.1", Login())

    assert f"disk_free_limit.absolute = {limit}" in _conf(folder)


def test_personal_settings_for_rabbitmq_and_erlang_do_not_reach_the_node(folder: Folder, monkeypatch):
    for name in ("RABBITMQ_USE_LONGNAME", "RABBITMQ_DEFAULT_PASS", "ERL_FLAGS", "NOTIFY_SOCKET", "NODENAME"):
        monkeypatch.setenv(name, "1")

    environment = folder.node_environment(4000)

    assert not {"RABBITMQ_USE_LONGNAME", "RABBITMQ_DEFAULT_PASS", "ERL_FLAGS", "NOTIFY_SOCKET", "NODENAME"} & set(
        environment
    )
    assert environment["HOME"] == str(folder.home)
    assert environment["RABBITMQ_CONF_ENV_FILE"] == "/dev/null"


@pytest.mark.parametrize(
    ("before", "after", "warning"),
    [
        (Login("guest", "guest"), Login("guest", "guest"), None),
        (Login("guest", "guest", "/"), Login("guest", "guest", "shop"), None),
        (Login("guest", "guest"), Login("guest", "wrong"), "the password of user 'guest' has changed since"),
        (Login("guest", "guest"), Login("guest", ""), "the password of user 'guest' has changed since"),
        (Login("anna", "pässword"), Login("anna", "password"), "the password of user 'anna' has changed since"),
        (
            Login("guest", "guest"),
            Login("Guest", "guest"),
            "the user has changed since the last start, from 'guest' to 'Guest'",
        ),
        (
            Login("guest", "guest"),
            Login("anna", "guest"),
            "the user has changed since the last start, from 'guest' to 'anna'",
        ),
    ],
)
def test_another_login_than_at_the_last_start_is_a_warning_without_a_password(
    folder: Folder, before: Login, after: Login, warning: str | None
) -> None:
    assert folder.login_change(before) is None, "there was no start"
    folder.configure(PORTS, "127.0.0.1", before)
    said = folder.login_change(after)
    assert (said is None) == (warning is None)
    if said is not None and warning is not None:
        assert said.startswith(f"broker.url: {warning}")
        assert said.endswith("; the private RabbitMQ will accept the new login")
        assert "wrong" not in said
    folder.configure(PORTS, "127.0.0.1", after)
    assert folder.login_change(after) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"users": []}', '{"users": [5]}', '{"users": [{"name": "a"}]}'])
def test_an_unreadable_definitions_file_is_no_other_login(folder: Folder, text: str) -> None:
    (folder.path / "definitions.json").write_text(text)
    assert folder.login_change(Login()) is None
