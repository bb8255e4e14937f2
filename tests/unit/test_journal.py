"""The recent lines in memory, and the lines in files."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from runner.errors import RunnerError
from runner.logs import timed
from runner.supervisor.output import journal as module
from runner.supervisor.output.journal import Journal
from runner.supervisor.output.line import Line
from runner.supervisor.output.logfile import LogFiles

TIMEOUT = 10.0


def texts(lines: Sequence[Line]) -> list[str]:
    return [line.shown for line in lines]


def test_the_latest_lines_are_in_the_order_of_their_arrival() -> None:
    journal = Journal()
    journal.child("a.1", [b"one", b"two"])
    journal.say("three")
    journal.child("b.1", [b"four"])
    journal.child("a.1", [b"five"])
    assert texts(journal.last(10)) == ["one", "two", "three", "four", "five"]
    assert texts(journal.last(2)) == ["four", "five"]
    assert texts(journal.last(10, lambda line: line.slot == "a.1")) == ["one", "two", "five"]
    assert journal.last(0) == []


def test_the_lines_of_several_slots_are_in_the_order_of_their_times() -> None:
    journal = Journal()
    journal.child("b.1", [timed(1002.0, "caused").encode()])
    journal.child("a.1", [timed(1001.0, "cause").encode(), timed(1003.0, "later").encode()])
    assert texts(journal.last(10)) == ["cause", "caused", "later"]
    assert texts(journal.last(2)) == ["caused", "later"]


def test_output_of_a_plugin_stays_before_the_record_that_follows_it() -> None:
    journal = Journal()
    journal.child("a.1", [b"printed", timed(1001.0, "logged").encode()])
    journal.child("b.1", [timed(1002.0, "other").encode()])
    assert texts(journal.last(10)) == ["printed", "logged", "other"]


def test_lines_of_the_supervisor_below_the_level_are_left_out() -> None:
    journal = Journal(level="warning")
    journal.say("ready")
    journal.say("careful", "warning")
    journal.child("a.1", [b"hello"])
    assert texts(journal.last(10)) == ["careful", "hello"]


def test_no_more_lines_are_kept_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINES", 3)
    monkeypatch.setattr(module, "MAX_BYTES", 30)
    journal = Journal()
    journal.child("a.1", [b"%d" % number for number in range(10)])
    assert texts(journal.last(10)) == ["7", "8", "9"]
    journal.child("a.1", [b"x" * 25, b"y" * 25])
    assert texts(journal.last(10)) == ["y" * 25]
    journal.child("a.1", [b"z" * 100])
    assert texts(journal.last(10)) == ["z" * 100], "the last line is kept however long it is"


def test_a_follower_gets_new_lines_until_it_leaves() -> None:
    journal, found = Journal(), list[Line]()
    journal.say("before")
    journal.follow(found.extend)
    journal.child("a.1", [b"one"])
    journal.say("two")
    journal.unfollow(found.extend)
    journal.say("after")
    assert texts(found) == ["one", "two"]


def test_lines_of_a_slot_are_in_its_own_file_with_their_time(tmp_path: Path) -> None:
    journal = Journal(files := LogFiles(tmp_path / "log", 10_000, 2))
    journal.child("a.1", [b"hello \x1b[2J"])
    journal.say("careful", "warning")
    files.close(TIMEOUT)
    (line,) = (tmp_path / "log" / "a.1.log").read_text().splitlines()
    assert line.endswith("+00:00 hello \\x1b[2J")
    assert (tmp_path / "log" / "runner.log").read_text().endswith(" WARNING: careful\n")


def test_a_full_file_is_renamed_and_the_oldest_is_removed(tmp_path: Path) -> None:
    journal = Journal(files := LogFiles(tmp_path, 200, 2, "json"))
    for number in range(20):
        journal.child("a.1", [b"line %d" % number])
    files.close(TIMEOUT)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["a.1.log", "a.1.log.1", "a.1.log.2"]
    assert all(path.stat().st_size <= 200 for path in tmp_path.iterdir())
    lines = "".join((tmp_path / name).read_text() for name in reversed(found)).splitlines()
    numbers = [int(json.loads(line)["message"].removeprefix("line ")) for line in lines]
    assert numbers == list(range(20 - len(numbers), 20))


def test_with_0_files_to_keep_only_the_current_file_exists(tmp_path: Path) -> None:
    journal = Journal(files := LogFiles(tmp_path, 100, 0))
    for number in range(20):
        journal.child("a.1", [b"line %d" % number])
    files.close(TIMEOUT)
    assert [path.name for path in tmp_path.iterdir()] == ["a.1.log"]
    assert "line 19" in (tmp_path / "a.1.log").read_text()


def test_lines_that_could_not_be_written_are_counted_at_the_next_written_line(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "log", 10_000, 2)
    (tmp_path / "log").rmdir()
    (tmp_path / "log").write_text("in the way")
    line = Line(0.0, "a.1", b"lost")
    assert files.write([line, line], 3)
    (tmp_path / "log").unlink()
    (tmp_path / "log").mkdir()
    assert files.write([Line(0.0, "a.1", b"there again")], 0)
    files.close(TIMEOUT)
    first, second = (tmp_path / "log" / "a.1.log").read_text().splitlines()
    assert first.endswith("WARNING: 5 lines before this line were lost")
    assert second.endswith("there again")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_open_umask")
def test_only_the_owner_may_read_the_files_including_those_of_an_earlier_version(tmp_path: Path) -> None:
    folder = tmp_path / "var" / "log"
    folder.mkdir(parents=True, mode=0o755)
    (folder / "a.1.log").touch(0o644)
    journal = Journal(files := LogFiles(folder, 100, 2))
    for slot in ("a.1", "b.1"):
        for _ in range(10):
            journal.child(slot, [b"alice@example.com"])
    files.close(TIMEOUT)
    assert mode(folder) == 0o700
    assert {mode(path) for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 6
    LogFiles(tmp_path / "new" / "log", 100, 2).close(TIMEOUT)
    assert mode(tmp_path / "new" / "log") == 0o700


@pytest.mark.parametrize("kind", ["link", "dangling", "second name", "pipe", "socket", "device", "folder"])
def test_a_file_that_is_not_the_runner_s_gets_no_lines_and_is_named(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    files = LogFiles(tmp_path / "log", 10_000, 2)
    path = tmp_path / "log" / "a.1.log"
    found: list[str] = []
    files.complain = found.append
    if kind == "link":
        path.symlink_to(target)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "new")
    elif kind == "second name":
        path.hardlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/null")
    else:
        path.mkdir()
    for _ in range(2):
        assert files.write([Line(0.0, "a.1", b"lost"), Line(0.0, "b.1", b"kept")], 0)
    assert [text.startswith(f"{path}: ") for text in found] == [True]
    assert target.read_text() == "mine"
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "log" / "b.1.log").read_text().count("kept") == 2
    path.rmdir() if kind == "folder" else path.unlink()
    files.write([Line(0.0, "a.1", b"there again")], 0)
    files.close(TIMEOUT)
    assert path.read_text().endswith("there again\n")
    assert (tmp_path / "log" / "b.1.log").read_text().count("1 lines before this line were lost") == 2


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_path_for_log_files_that_is_no_folder_is_refused(tmp_path: Path, kind: str) -> None:
    if kind == "link":
        (tmp_path / "log").symlink_to(tmp_path)
    else:
        (tmp_path / "log").touch()
    with pytest.raises(RunnerError, match=r"/log: (is a link|cannot be used, .*); allowed: a folder of this user"):
        LogFiles(tmp_path / "log", 10_000, 2)
