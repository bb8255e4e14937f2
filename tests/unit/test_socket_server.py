"""A running runner can always be found by other processes."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import AlreadyRunning
from runner.supervisor.control import socket_path, socket_server
from runner.supervisor.control.socket_server import Control
from runner.supervisor.lock import holder_of, take_lock


class Journal:
    """A journal that keeps its lines."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str, level: str = "info", slot: str = "runner") -> None:
        self.said.append(text)


async def answers(var: Path) -> bool:
    """Return True if a process accepts connections at the socket."""
    try:
        with socket_path(var) as path:
            _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


def kept(var: Path, damage: Callable[[], object]) -> list[str]:
    """Damage the folder of a runner, and wait until the runner is found again. Return the journal's lines."""
    journal: Any = Journal()

    async def main() -> None:
        control = Control(var, object(), journal)  # type: ignore[arg-type]
        with take_lock(var) as lock:
            end_control = control.begin()
            end = socket_server.Presence(var, lock, control, journal).begin()
            assert await answers(var)
            damage()
            async with asyncio.timeout(10):
                while not (journal.said and holder_of(var) and await answers(var)):
                    await asyncio.sleep(0.01)
            with pytest.raises(AlreadyRunning):
                take_lock(var)
            end()
            async with asyncio.timeout(10):
                while control._tasks:
                    await asyncio.sleep(0.01)
            end_control()
        assert holder_of(var) is None
        assert not (var / "runner.sock").exists()

    asyncio.run(main())
    return list(journal.said)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_server, "INTERVAL", 0.02)


@pytest.mark.parametrize(
    ("names", "again"),
    [
        (["runner.sock"], ["runner.sock"]),
        (["runner.lock"], ["runner.lock"]),
        (["runner.sock", "runner.lock"], ["runner.lock", "runner.sock"]),
    ],
)
def test_files_of_a_running_runner_are_created_again(tmp_path: Path, names: list[str], again: list[str]) -> None:
    said = kept(tmp_path, lambda: list(map(os.unlink, [tmp_path / name for name in names])))
    assert said == [f"{tmp_path / name} was removed and has been created again" for name in again]


def test_the_folder_of_a_running_runner_is_created_again(tmp_path: Path) -> None:
    assert len(kept(tmp_path / "var", lambda: shutil.rmtree(tmp_path / "var"))) == 2


def test_a_lock_that_was_replaced_is_locked_again(tmp_path: Path) -> None:
    def replace() -> None:
        (tmp_path / "new").write_text("1\n")
        (tmp_path / "new").replace(tmp_path / "runner.lock")

    assert len(kept(tmp_path, replace)) == 1


def test_another_runner_in_the_same_folder_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal: Any = Journal()
    attempts: list[Path] = []

    def attempt(var: Path) -> Any:
        attempts.append(var)
        return take_lock(var)

    monkeypatch.setattr(socket_server, "take_lock", attempt)

    async def main() -> None:
        control = Control(tmp_path, object(), journal)  # type: ignore[arg-type]
        with take_lock(tmp_path) as lock:
            end_control = control.begin()
            end = socket_server.Presence(tmp_path, lock, control, journal).begin()
            (tmp_path / "runner.lock").unlink()
            with take_lock(tmp_path):
                async with asyncio.timeout(10):
                    while len(attempts) < 3:
                        await asyncio.sleep(0.01)
            end()
            end_control()

    asyncio.run(main())
    assert len(journal.said) == 1
    assert "a supervisor is already running in this folder" in journal.said[0]
