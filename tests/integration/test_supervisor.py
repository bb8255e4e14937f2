"""The supervisor with real children that misbehave. No broker is needed."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.machine import in_time
from tests.rabbit import wait_until
from tests.supervised import SLEEPS, Supervise, is_gone

ENDINGS = {
    "sys.exit(0)": "exited with status 0 unexpectedly: restarting",
    "sys.exit(1)": "exited with status 1: restarting",
    "os.kill(os.getpid(), signal.SIGSEGV)": "killed by SIGSEGV: restarting",
    "sys.exit(75)": r"exited with status 75 \(broker unreachable or topology missing\): restarting",
}


def test_a_child_that_exits_without_a_stop_is_restarted(supervise: Supervise) -> None:
    runner = supervise(
        *(
            f"ready()\nif not os.path.exists('{n}'):\n    open('{n}', 'w')\n    {ending}\ntime.sleep(600)"
            for n, ending in enumerate(ENDINGS)
        )
    )
    for number, words in enumerate(ENDINGS.values(), 1):
        runner.wait_for(f"child{number}.1 {words}")
        runner.pid_of(f"child{number}.1", count=2)
    assert runner.stop() == 0


def test_a_configuration_error_is_fatal_at_once_and_other_children_run_on(supervise: Supervise) -> None:
    runner = supervise("print('port: not a number')\nsys.exit(78)", SLEEPS)
    runner.wait_for(r"child1.1 FATAL, exited with status 78 \(configuration error\): given up")
    assert "port: not a number" in runner.output
    runner.pid_of("child2.1")
    assert "restarting" not in runner.output
    assert runner.stop() == 1


def test_a_child_that_never_gets_ready_is_killed_and_restarted(supervise: Supervise) -> None:
    runner = supervise("time.sleep(600)", start_timeout=2)
    runner.wait_for("child1.1 not ready within 2 s: killed, stack traces follow")
    runner.wait_for("child1.1 killed by SIGABRT, not ready within 2 s: restarting")
    assert runner.stop() == 0


def test_the_first_restart_of_a_ready_child_is_immediate(supervise: Supervise) -> None:
    runner = supervise("print(f'began {time.monotonic()}')\nready()\ntime.sleep(600)")
    pid = runner.pid_of("child1.1")
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    runner.wait_for(r"began ([\d.]+)", count=2)
    began = float(re.findall(r"began ([\d.]+)", runner.output)[1])
    assert began - killed < in_time(0.5)
    assert runner.stop() == 0


def test_a_child_that_sigstop_stopped_is_continued_to_receive_the_stop_signal(supervise: Supervise) -> None:
    runner = supervise(SLEEPS)
    os.kill(runner.pid_of("child1.1"), signal.SIGSTOP)
    started = time.monotonic()
    assert runner.stop() == 0
    assert time.monotonic() - started < in_time(0.9)


def test_a_child_that_ignores_the_stop_is_killed_with_its_whole_group(supervise: Supervise, tmp_path: Path) -> None:
    runner = supervise(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            open("grandchild", "w").write(str(os.getpid()))
            time.sleep(600)
        ready()
        time.sleep(600)
        """
    )
    runner.pid_of("child1.1")
    grandchild = int(wait_until(lambda: (tmp_path / "grandchild").exists() and (tmp_path / "grandchild").read_text()))
    assert runner.stop() == 0
    wait_until(lambda: is_gone(grandchild), 10)


def test_a_second_interrupt_kills_at_once(supervise: Supervise) -> None:
    runner = supervise("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nready()\ntime.sleep(600)")
    runner.pid_of("child1.1")
    runner.process.send_signal(signal.SIGINT)
    runner.wait_for("stopping: SIGINT received")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 0.35)
    assert runner.stop() == 0
    assert time.monotonic() - began < in_time(0.9)


def test_when_the_leader_of_a_group_exits_the_rest_of_the_group_is_killed(supervise: Supervise, tmp_path: Path) -> None:
    runner = supervise(
        """
        ready()
        if os.fork() == 0:
            open("grandchild", "w").write(str(os.getpid()))
            time.sleep(600)
        while not os.path.exists("grandchild"):
            time.sleep(0.01)
        sys.exit(1)
        """
    )
    grandchild = int(wait_until(lambda: (tmp_path / "grandchild").exists() and (tmp_path / "grandchild").read_text()))
    runner.wait_for("child1.1 exited with status 1")
    wait_until(lambda: is_gone(grandchild), 10)
    runner.stop()


def test_an_escaped_grandchild_that_keeps_the_output_open_does_not_delay_the_restart(
    supervise: Supervise, tmp_path: Path
) -> None:
    runner = supervise(
        """
        if not os.path.exists("escaped"):
            if os.fork() == 0:
                os.setsid()
                open("escaped", "w").write(str(os.getpid()))
                time.sleep(600)
            while not os.path.exists("escaped"):
                time.sleep(0.01)
            ready()
            sys.exit(1)
        ready()
        time.sleep(600)
        """
    )
    runner.wait_for("child1.1 RUNNING, pid", 10)
    runner.wait_for("child1.1 exited with status 1: restarting now", 10)
    runner.wait_for("at work", 5, count=1)
    wait_until(lambda: is_gone(int((tmp_path / "escaped").read_text())), 5)
    assert runner.stop() == 0


def test_a_flood_of_arbitrary_output_neither_blocks_nor_breaks_the_supervisor(
    supervise: Supervise,
) -> None:
    runner = supervise(
        r"""
        out = sys.stdout.buffer
        out.write(b"bad \xff\xfe bytes and \x1b[31m an escape\n")
        out.write(b"x" * 200_000 + b"\n")
        for number in range(15_000):
            out.write(b"line %d of a flood that is long enough to fill any pipe quickly\n" % number)
        out.write(b"without an end")
        out.flush()
        ready()
        time.sleep(600)
        """
    )
    runner.pid_of("child1.1")
    assert runner.stop() == 0
    assert r"bad \xff\xfe bytes and \x1b[31m an escape" in runner.output
    assert any(line.endswith("x" * 65536) for line in runner.lines)
    assert "| without an end" in runner.output
    shown = len(re.findall(r"line \d+ of a flood", runner.output))
    dropped = sum(int(count) for count in re.findall(r"(\d+) lines dropped", runner.output))
    assert shown + dropped >= 15_000


def test_when_the_supervisor_is_killed_children_that_ignore_everything_are_gone_within_3_s(
    supervise: Supervise, tmp_path: Path
) -> None:
    runner = supervise(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            open("grandchild", "w").write(str(os.getpid()))
        ready()
        time.sleep(600)
        """,
        SLEEPS,
    )
    pids = [runner.pid_of("child1.1"), runner.pid_of("child2.1")]
    pids.append(int(wait_until(lambda: (tmp_path / "grandchild").exists() and (tmp_path / "grandchild").read_text())))
    everything = {*pids, *runner.children()}
    runner.process.kill()
    wait_until(lambda: all(is_gone(pid) for pid in everything), in_time(3))


def test_a_guardian_that_is_killed_is_replaced_and_knows_all_children(supervise: Supervise) -> None:
    runner = supervise(SLEEPS, SLEEPS)
    first = runner.pid_of("child1.1")
    (guardian,) = [pid for pid, command in runner.children().items() if "guardian" in command]
    os.kill(guardian, signal.SIGKILL)
    runner.wait_for("the guardian process exited and was restarted")
    os.kill(runner.pid_of("child2.1"), signal.SIGKILL)
    second = runner.pid_of("child2.1", count=2)
    os.kill(first, signal.SIGSTOP)
    runner.process.kill()
    wait_until(lambda: is_gone(first) and is_gone(second), in_time(4))


def test_signals_that_are_ignored_at_the_start_stay_ignored(supervise: Supervise, tmp_path: Path) -> None:
    runner = supervise(SLEEPS, prefix=("nohup",))
    runner.pid_of("child1.1")
    runner.process.send_signal(signal.SIGHUP)
    os.kill(runner.pid_of("child1.1"), signal.SIGKILL)
    runner.pid_of("child1.1", count=2)
    assert "stopping" not in runner.output
    assert runner.stop() == 0


#: A program that runs the rest of its command line with these signals blocked or ignored.
BLOCKED = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {}); os.execvp(sys.argv[1], sys.argv[1:])"
IGNORED = 'trap \'\' {}; exec "$0" "$@"'


@pytest.mark.parametrize(
    ("prefix", "number"),
    [
        (("sh", "-c", IGNORED.format("INT QUIT")), signal.SIGINT),
        (("sh", "-c", IGNORED.format("TERM")), signal.SIGTERM),
        (("sh", "-c", IGNORED.format("CHLD")), signal.SIGTERM),
        ((sys.executable, "-S", "-c", BLOCKED.format("(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)")), signal.SIGINT),
        ((sys.executable, "-S", "-c", BLOCKED.format("signal.valid_signals()")), signal.SIGTERM),
    ],
    ids=["SIGINT ignored", "SIGTERM ignored", "SIGCHLD ignored", "those that stop blocked", "all blocked"],
)
def test_a_supervisor_with_any_inherited_signals_stops_and_restarts_children(
    supervise: Supervise, prefix: tuple[str, ...], number: signal.Signals
) -> None:
    runner = supervise(SLEEPS, prefix=prefix)
    os.kill(runner.pid_of("child1.1"), signal.SIGTERM)
    runner.wait_for("child1.1 killed by SIGTERM: restarting")
    runner.pid_of("child1.1", count=2)
    assert runner.stop(number) == 0
    assert "did not stop" not in runner.output


def test_many_restarts_leave_no_descriptor_and_no_zombie(supervise: Supervise) -> None:
    # The child imports little, so that it starts fast.
    source = 'import os; print("up", flush=True); os.write(int(os.environ["FASTCOMMERCE_LIFELINE"]), b"READY=1\\n")'
    source += "; os.kill(os.getpid(), 9)"
    runner = supervise({"source": "", "command": [sys.executable, "-I", "-S", "-c", source]}, SLEEPS)
    runner.pid_of("child2.1")
    folder = Path(f"/proc/{runner.process.pid}/fd")
    runner.wait_for("restarting", count=20)
    before = len(list(folder.iterdir()))
    runner.wait_for("restarting", count=80)
    # While a child starts, some more descriptors are open. Leaked descriptors would stay open.
    wait_until(lambda: len(list(folder.iterdir())) <= before + 4, 5)
    assert runner.stop() == 0
