"""The search for an installed RabbitMQ, and links to the parts that a node needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.broker import installation as server
from runner.broker.installation import Installation, installed_server, link_needed


@pytest.fixture(autouse=True)
def _no_usual_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_FURTHER_FOLDERS", ())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "rabbitmq_server-4.1.0"
    for folder in ("sbin", "escript", "plugins"):
        (home / folder).mkdir(parents=True)
    script = home / "sbin" / "rabbitmq-server"
    script.touch(mode=0o755)
    applications = {
        "rabbit": "kernel, rabbit_common,\n  rabbitmq_prelaunch",
        "rabbit_common": "kernel",
        "rabbitmq_prelaunch": "kernel",
        "rabbitmq_management": "rabbit, rabbitmq_management_agent, cowboy",
        "rabbitmq_management_agent": "rabbit",
        "rabbitmq_shovel": "rabbit",
        "cowboy": "kernel",
        "recon": "kernel",
    }
    for name, needs in applications.items():
        ebin = home / "plugins" / f"{name}-4.1.0" / "ebin"
        ebin.mkdir(parents=True)
        (ebin / f"{name}.app").write_text(f"{{application, {name}, [{{applications, [{needs}]}}]}}.")
    return home


def test_a_plain_installation_is_found_through_path(home: Path):
    assert installed_server(str(home / "sbin")) == Installation(home, "4.1.0")


def test_an_installation_is_found_behind_a_wrapper_beside_the_link_to_the_script(home: Path, tmp_path: Path):
    links, sbin = tmp_path / "lib" / "bin", tmp_path / "usr-sbin"
    for folder in (links, sbin):
        folder.mkdir(parents=True)
    (links / "wrapper").touch(mode=0o755)
    (links / "rabbitmq-server").symlink_to(home / "sbin" / "rabbitmq-server")
    (sbin / "rabbitmq-server").symlink_to(links / "wrapper")

    assert installed_server(str(sbin)) == Installation(home, "4.1.0")


def test_an_installation_off_path_is_found_in_the_usual_folders(home: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(server, "_FURTHER_FOLDERS", (str(home / "sbin"),))

    assert installed_server(str(tmp_path)) == Installation(home, "4.1.0")


def test_without_an_installation_none_is_found(tmp_path: Path):
    assert installed_server(str(tmp_path)) is None


def test_unused_plugins_are_left_out_and_libraries_are_kept(home: Path, tmp_path: Path):
    slim = link_needed(Installation(home, "4.1.0"), tmp_path / "slim", ["rabbitmq_management"])

    linked = {entry.name.rpartition("-")[0] for entry in (slim.home / "plugins").iterdir()}
    assert linked == {
        *("rabbit", "rabbit_common", "rabbitmq_prelaunch"),
        *("rabbitmq_management", "rabbitmq_management_agent", "cowboy", "recon"),
    }
    assert slim.script.is_file()


def test_linking_again_follows_the_plugins_in_use(home: Path, tmp_path: Path):
    link_needed(Installation(home, "4.1.0"), tmp_path / "slim", ["rabbitmq_management"])
    slim = link_needed(Installation(home, "4.1.0"), tmp_path / "slim", ["rabbitmq_shovel"])

    names = {entry.name for entry in (slim.home / "plugins").iterdir()}
    assert "rabbitmq_shovel-4.1.0" in names
    assert "rabbitmq_management-4.1.0" not in names
