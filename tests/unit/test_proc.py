"""The data of Linux about a process with any name."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from runner.proc import command_line, read_stat
from tests.rabbit import wait_until


@pytest.mark.parametrize("name", ["sleep", "a b", "a) R 1 (b", ")", "(", "é)"])
def test_a_process_with_any_name_is_read(tmp_path: Path, name: str) -> None:
    program = shutil.which("sleep")
    assert program is not None
    (tmp_path / name).symlink_to(program)
    process = subprocess.Popen([tmp_path / name, "600"])
    try:
        wait_until(lambda: command_line(process.pid)[:2] == [os.fsencode(tmp_path / name), b"600"])
        own, stat = read_stat(os.getpid()), read_stat(process.pid)
        assert own is not None
        assert stat is not None
        assert (stat.parent, stat.has_ended) == (os.getpid(), False)
        assert stat.start >= own.start > 0
        assert own.cpu > 0
        assert own.pages > 0
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        stat = read_stat(process.pid)
        assert stat is not None
        assert stat.has_ended
        assert command_line(process.pid) in ([], [b""])
    finally:
        process.kill()
        process.wait()
    assert read_stat(process.pid) is None
    assert command_line(process.pid) == []
