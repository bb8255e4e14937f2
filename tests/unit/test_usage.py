"""The use of a process includes all its descendants."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from runner.ipc.shared_memory import WorkerCounters
from runner.supervisor.processes.usage import Sampler, family, resident

MIB = 2**20
#: A process that starts a chain of ``depth`` descendants. The last one uses 60 MiB. Each exits at the end of its input.
NESTED = """
import subprocess, sys, threading
depth = int(sys.argv[1])
def work():
    if depth:
        command = [sys.executable, "-S", "-c", sys.argv[2], str(depth - 1), sys.argv[2]]
        child = subprocess.Popen(command, stdin=subprocess.PIPE)
        sys.stdin.read()
        child.stdin.close()
        child.wait()
    else:
        taken = bytearray(60 * 2**20)
        print("ready", flush=True)
        sys.stdin.read()
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.fixture(params=[0, 1, 2])
def nested(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Return the number of a process's descendants and its pid."""
    command = [sys.executable, "-S", "-c", NESTED, str(request.param), NESTED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        yield request.param, process.pid
        process.stdin.close()


def test_memory_includes_all_descendants(nested: tuple[int, int]) -> None:
    count, pid = nested
    assert len(list(family(pid))) == count + 1
    assert resident(pid) > 60 * MIB
    now = time.monotonic()
    usage = Sampler().usage(pid, WorkerCounters(), now - 10, now)
    assert usage is not None
    assert usage.memory > 60 * MIB
    assert 0 < usage.cpu < 1000


def test_an_exited_process_uses_nothing() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert resident(process.pid) == 0
    assert Sampler().usage(process.pid, WorkerCounters(), 0.0, 1.0) is None


def test_processor_use_is_never_negative() -> None:
    sampler, now = Sampler(), time.monotonic()
    pid = os.getpid()
    with subprocess.Popen([sys.executable, "-S", "-c", "sum(range(10**6)); input()"], stdin=subprocess.PIPE) as child:
        sampler.sample({pid: WorkerCounters()}, now - 2)
        child.kill()
    usage = sampler.usage(pid, WorkerCounters(), now - 10, now)
    assert usage is not None
    assert usage.cpu >= 0


def test_each_process_of_a_cycle_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.supervisor.processes.usage._children", lambda pid: [pid, 3 - pid])
    assert sorted(family(1)) == [1, 2]
