"""Misbehaving children: the supervisor must notice, kill and report each, and clean up after it."""

from __future__ import annotations

import functools
import itertools
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.machine import in_time
from tests.rabbit import wait_until
from tests.supervised import SLEEPS, Supervise, descendants, is_gone


def pid_in(path: Path) -> int:
    """Return the pid that a child has written to a file."""
    return int(wait_until(lambda: path.exists() and path.read_text()))


def test_a_child_that_hangs_logs_its_stack_and_is_restarted(supervise: Supervise) -> None:
    runner = supervise(
        """
        ready()
        def the_place_where_it_hangs():
            if not os.path.exists("hung"):
                open("hung", "w").close()
                time.sleep(600)
        the_place_where_it_hangs()
        while True:
            say("WATCHDOG=1")
            time.sleep(0.1)
        """,
        watchdog=1,
    )
    runner.wait_for("child1.1 sent no watchdog ping for 1 s: killed, stack traces follow")
    runner.wait_for(r"child1.1 .*in the_place_where_it_hangs")
    runner.wait_for("child1.1 killed by SIGABRT, sent no watchdog ping for 1 s: restarting now")
    runner.pid_of("child1.1", count=2)
    started = time.monotonic()
    wait_until(lambda: time.monotonic() - started > 1.5)
    assert runner.output.count("RUNNING, pid") == 2, "signs of life keep it alive"
    assert runner.stop() == 0


def test_a_child_that_holds_the_interpreter_and_ignores_everything_is_killed(supervise: Supervise) -> None:
    runner = supervise(
        """
        for number in (signal.SIGTERM, signal.SIGABRT):
            signal.signal(number, signal.SIG_IGN)
        ready()
        import re
        re.match("(a+)+$", "a" * 60 + "b")
        """,
        watchdog=1,
    )
    runner.wait_for("child1.1 killed by SIGKILL, sent no watchdog ping for 1 s: restarting", 10)
    assert runner.stop() == 0


def test_a_child_that_sigstop_stopped_is_killed_for_lack_of_watchdog_pings(supervise: Supervise) -> None:
    runner = supervise("ready()\nwhile True:\n    say('WATCHDOG=1')\n    time.sleep(0.1)", watchdog=1)
    os.kill(runner.pid_of("child1.1"), signal.SIGSTOP)
    runner.wait_for("child1.1 killed by SIGABRT, sent no watchdog ping for 1 s: restarting now")
    assert runner.stop() == 0


def test_a_child_that_reports_its_own_hang_is_killed_with_that_reason(supervise: Supervise) -> None:
    runner = supervise("ready()\nsay('STATUS=lost its consumer', 'WATCHDOG=trigger')\ntime.sleep(600)", count=2)
    runner.wait_for("child1.1 killed by SIGABRT, lost its consumer: restarting now")
    runner.wait_for("child1.1 FATAL, 2 failures within 20 s; the last: killed by SIGABRT, lost its consumer")
    assert runner.process.wait(10) == 1


def test_processes_that_a_child_left_in_another_session_are_killed_with_it(
    supervise: Supervise, tmp_path: Path
) -> None:
    def escaping(number: int, *, is_forked_twice: bool, has_environment: bool) -> str:
        escape = "    os.setsid()\n    if os.fork(): os._exit(0)\n" if is_forked_twice else "    os.setsid()\n"
        environment = "dict(os.environ)" if has_environment else "{}"
        program = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
        return (
            f"if os.fork() == 0:\n{escape}    open('escaped{number}', 'w').write(str(os.getpid()))\n"
            f"    os.execve({sys.executable!r}, {program}, {environment})\n{SLEEPS}"
        )

    # The first process has no tie to its child, so the supervisor would kill it after the exit of any child.
    ways = [(True, False), (False, False), (True, True), (False, True)]
    sources = [escaping(n, is_forked_twice=a, has_environment=b) for n, (a, b) in enumerate(ways, 1)]
    runner = supervise(*sources, SLEEPS)
    escaped = [pid_in(tmp_path / f"escaped{number}") for number in range(1, 5)]
    other = runner.pid_of("child5.1")
    for number, pid in enumerate(escaped, 1):
        assert not is_gone(pid)
        (tmp_path / f"escaped{number}").unlink()
        os.kill(runner.pid_of(f"child{number}.1"), signal.SIGKILL)
        runner.pid_of(f"child{number}.1", count=2)
        wait_until(functools.partial(is_gone, pid), 5)
    assert not is_gone(other)
    again = [pid_in(tmp_path / f"escaped{number}") for number in range(1, 5)]
    assert runner.stop() == 0
    assert not descendants(os.getpid()).keys() & {*escaped, *again}


def test_a_detached_process_of_a_running_child_runs_on_until_the_runner_stops(
    supervise: Supervise, tmp_path: Path
) -> None:
    runner = supervise(
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
        "    open('daemon', 'w').write(str(os.getpid()))\n    time.sleep(600)\n" + SLEEPS,
        SLEEPS,
    )
    daemon = pid_in(tmp_path / "daemon")
    runner.pid_of("child1.1")
    os.kill(runner.pid_of("child2.1"), signal.SIGKILL)
    runner.pid_of("child2.1", count=2)
    assert not is_gone(daemon)
    assert runner.stop() == 0
    assert is_gone(daemon)


def test_a_zombie_of_a_detached_process_is_reaped_while_its_child_lives(supervise: Supervise, tmp_path: Path) -> None:
    runner = supervise(
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
        "    open('daemon', 'w').write(str(os.getpid()))\n    time.sleep(0.3)\n    os._exit(3)\n" + SLEEPS
    )
    daemon = pid_in(tmp_path / "daemon")
    wait_until(lambda: not Path(f"/proc/{daemon}").exists(), 5)
    runner.pid_of("child1.1")
    assert runner.stop() == 0


def test_after_a_kill_of_the_runner_even_processes_outside_its_session_are_gone_within_3_s(
    supervise: Supervise, tmp_path: Path
) -> None:
    runner = supervise(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n    os.setsid()\n    open('one', 'w').write(str(os.getpid()))\n    time.sleep(600)\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
        "    open('two', 'w').write(str(os.getpid()))\n    time.sleep(600)\n" + SLEEPS
    )
    escaped = {pid_in(tmp_path / "one"), pid_in(tmp_path / "two"), runner.pid_of("child1.1")}
    everything = escaped | descendants(runner.process.pid).keys()
    runner.process.kill()
    wait_until(lambda: all(is_gone(pid) for pid in everything), in_time(3))


def test_megabytes_of_output_delay_no_other_child(supervise: Supervise, tmp_path: Path) -> None:
    runner = supervise(
        """
        ready()
        line = b"line %06d of a flood that never ends and that nobody will ever read\\n"
        block = b"".join(line % number for number in range(7000))
        started, written = time.monotonic(), 0
        while written < 20_000_000:
            sys.stdout.buffer.write(block)
            written += len(block)
        sys.stdout.flush()
        open("took", "w").write(f"{time.monotonic() - started} {written // (len(line) + 2)} ")
        time.sleep(600)
        """,
        """
        ready()
        with open("beats", "w") as file:
            while True:
                print("quiet", flush=True)
                print(time.monotonic(), file=file, flush=True)
                time.sleep(0.05)
        """,
    )

    def has_ended() -> bool:
        return (tmp_path / "took").exists() and (tmp_path / "took").read_text().endswith(" ")

    wait_until(has_ended, 60)
    took, written, _ = (tmp_path / "took").read_text().split(" ")
    assert float(took) < 20
    beats = [float(beat) for beat in (tmp_path / "beats").read_text().split()]
    assert max(after - before for before, after in itertools.pairwise(beats)) < 2
    memory = int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{runner.process.pid}/status").read_text())[0])
    assert memory < 150_000, "kilobytes at most"
    assert runner.stop() == 0
    shown = sum("of a flood" in line for line in runner.lines)
    dropped = sum(
        int(re.findall(r"\d+", line)[-1]) for line in runner.lines if line.endswith("reader of this output is too slow")
    )
    assert shown + dropped >= int(written) - 1, "what is dropped is counted"


def test_a_line_of_ten_megabytes_is_printed_in_pieces(supervise: Supervise) -> None:
    runner = supervise(
        "ready()\nsys.stdout.write('x' * 10_000_000 + chr(10) + 'after' + chr(10))\nsys.stdout.flush()\n" + SLEEPS
    )
    runner.wait_for(r"child1.1 +\| after")
    assert runner.stop() == 0
    pieces = [line for line in runner.lines if re.fullmatch(r"\S+ child1.1 +\| x+", line)]
    dropped = sum(int(one) for one in re.findall(r"(\d+) lines dropped", runner.output))
    assert len(pieces) + dropped >= 10_000_000 // 65536
    assert all(len(line) < 66_000 for line in pieces)


@pytest.mark.parametrize(
    ("restart", "ending", "words", "code"),
    [
        ("on-failure", "sys.exit(0)", "child1.1 EXITED, done", 0),
        ("on-failure", "sys.exit(1)", "child1.1 exited with status 1: restarting", None),
        ("never", "sys.exit(1)", "WARNING: child1.1 EXITED, exited with status 1", 1),
        ("never", "os.kill(os.getpid(), signal.SIGSEGV)", "child1.1 EXITED, killed by SIGSEGV", 1),
    ],
)
def test_the_restart_policy_decides_after_an_exit_and_the_runner_exits_after_its_last_child(
    supervise: Supervise, restart: str, ending: str, words: str, code: int | None
) -> None:
    runner = supervise(f"ready()\n{ending}", restart=restart)
    runner.wait_for(words)
    if code is None:
        assert runner.stop() in (0, 1)
    else:
        runner.wait_for("stopping: every service has exited")
        assert runner.process.wait(10) == code


def test_a_fatal_child_stops_all_others_if_so_configured(supervise: Supervise) -> None:
    runner = supervise("sys.exit(78)", SLEEPS, exits=True)
    runner.wait_for("stopping: the supervisor gave up on a service")
    assert runner.process.wait(10) == 1


def test_a_child_starts_after_its_dependencies_and_stops_before_them(supervise: Supervise, tmp_path: Path) -> None:
    slow = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), sys.exit(0)))\n"
    runner = supervise(
        {"service": "last", "source": slow + SLEEPS, "depends_on": ["middle", "elsewhere"]},
        {"service": "middle", "source": slow + "time.sleep(0.5)\n" + SLEEPS, "depends_on": ["first"]},
        {"service": "first", "source": slow + "time.sleep(0.5)\n" + SLEEPS},
    )
    runner.wait_for("everything is RUNNING")
    assert runner.stop() == 0
    events = re.findall(r"(last|middle|first).1 (RUNNING|stopped)", runner.output)
    assert [name for name, what in events if what == "RUNNING"] == ["first", "middle", "last"]
    assert [name for name, what in events if what == "stopped"] == ["last", "middle", "first"]


def test_the_runner_exits_if_the_last_child_depends_on_a_fatal_child(supervise: Supervise) -> None:
    runner = supervise(
        {"service": "needs", "source": SLEEPS, "depends_on": ["broken"]},
        {"service": "broken", "source": "sys.exit(78)"},
    )
    runner.wait_for("stopping: no service can run any more")
    assert runner.process.wait(10) == 1


def test_limits_and_environment_reach_the_child(supervise: Supervise) -> None:
    runner = supervise(
        {
            "source": """
            import resource
            # The supervisor sets them once the child is there.
            until = time.monotonic() + 20
            while resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 123 and time.monotonic() < until:
                time.sleep(0.01)
            print("nice", os.nice(0), "files", resource.getrlimit(resource.RLIMIT_NOFILE)[0], os.environ["COLOUR"])
            print("instance", len(os.environ["FASTCOMMERCE_INSTANCE"]) > 20, flush=True)
            ready()
            time.sleep(600)
            """,
            "limits": {"nice": 3, "open_files": 123},
            "environment": {"COLOUR": "green"},
        }
    )
    runner.wait_for(rf"nice {os.nice(0) + 3} files 123 green")
    assert runner.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give others' rights")
def test_root_can_run_a_child_as_another_user(supervise: Supervise) -> None:
    runner = supervise(
        {
            "source": "",
            "command": ["/bin/sh", "-c", 'echo "uid $(id -u) $(id -g) $USER $(id -G)"; exec sleep 600'],
            "limits": {"user": "nobody"},
        }
    )
    runner.wait_for(r"uid 65534 65534 nobody 65534")
    assert runner.stop() == 0


def test_an_unknown_user_is_reported_and_fatal(supervise: Supervise) -> None:
    runner = supervise({"source": SLEEPS, "limits": {"user": "nobody-of-this-name"}}, count=2)
    runner.wait_for("child1.1 FATAL, 2 failures within 20 s; the last: .*no user 'nobody-of-this-name'")
    assert runner.process.wait(10) == 1


def test_a_child_that_uses_too_much_memory_is_replaced(supervise: Supervise, tmp_path: Path) -> None:
    runner = supervise(
        {
            "source": """
            if not os.path.exists("grown"):
                open("grown", "w").close()
                memory = bytearray(os.urandom(1)) * 100_000_000
            ready()
            time.sleep(600)
            """,
            "limits": {"memory_max": 75_500_000},
        }
    )
    first = runner.pid_of("child1.1")
    runner.wait_for(r"child1.1 uses \d+ MiB, more than its memory_max of 72 MiB; replacing the process")
    runner.pid_of("child1.1", count=2)
    runner.wait_for("child1.1: the old process stopped")
    assert is_gone(first)
    assert "restarting" not in runner.output
    assert runner.stop() == 0
