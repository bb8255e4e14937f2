"""A runner exits with one line if it cannot use its folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import RunnerError
from runner.supervisor.control.socket_server import Control
from runner.supervisor.lock import take_lock


def make_file(var: Path) -> None:
    var.touch()


def make_loop(var: Path) -> None:
    var.symlink_to(var)


def make_lock_folder(var: Path) -> None:
    (var / "runner.lock").mkdir(parents=True)


def make_lock_link(var: Path) -> None:
    var.mkdir()
    (var.parent / "mine").write_text("mine")
    (var / "runner.lock").symlink_to(var.parent / "mine")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (make_file, "/var: cannot be used, File exists; allowed: a folder that this user can write to"),
        (make_loop, "/var: cannot be used, File exists; allowed: a folder that this user can write to"),
        (
            make_lock_folder,
            "/var/runner.lock: cannot be used, Is a directory; allowed: a folder that this user can write to",
        ),
        (
            make_lock_link,
            "/var/runner.lock: cannot be used, Too many levels of symbolic links; "
            "allowed: a folder that this user can write to",
        ),
    ],
)
def test_a_path_that_is_no_writable_folder_is_named(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    make(tmp_path / "var")
    with pytest.raises(RunnerError) as caught:
        take_lock(tmp_path / "var")
    assert str(caught.value) == f"{tmp_path}{said}"
    assert not (tmp_path / "mine").exists() or (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("has_lock", [True, False])
def test_a_folder_of_another_user_is_named_even_if_it_contains_an_old_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_lock: bool
) -> None:
    if has_lock:
        (tmp_path / "runner.lock").write_text("1\n")
    # The tests may run as root, to whom nothing is denied.
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(RunnerError, match="this user lacks write permission; allowed: a folder that this user"):
        take_lock(tmp_path)


def make_socket_folder(var: Path) -> None:
    (var / "runner.sock").mkdir(parents=True)


@pytest.mark.parametrize(("make", "why"), [(make_socket_folder, "Is a directory"), (make_file, "Not a directory")])
def test_a_socket_that_cannot_be_created_is_named(tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    make(tmp_path / "var")

    async def begin() -> None:
        Control(tmp_path / "var", object(), object()).begin()  # type: ignore[arg-type]

    with pytest.raises(
        RunnerError, match=f"/var/runner.sock: cannot be created, {why}; allowed: a folder that this user"
    ):
        asyncio.run(begin())
