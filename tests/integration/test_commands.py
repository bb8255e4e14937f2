"""Commands to a supervisor in every order. Its children need no broker."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

from runner.supervisor.control import socket_path
from runner.supervisor.control.client import watch
from tests.ports import free_port
from tests.rabbit import wait_until
from tests.running import plain
from tests.supervised import SLEEPS, Supervise, is_gone

#: A child that is ready at once and takes a while to stop.
DRAINS = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit(0)))\n" + SLEEPS


def up(supervise: Supervise, *programs: Any, **policy: Any) -> Any:
    runner = supervise(*programs, **policy)
    runner.wait_for("everything is RUNNING")
    return runner


def test_one_slot_of_a_stopped_service_can_be_started_and_the_runner_then_stops_cleanly(supervise: Supervise) -> None:
    runner = up(supervise, {"service": "pay", "source": SLEEPS, "instances": 2})
    assert supervise.tell("stop", target="pay")["done"] == "pay.1, pay.2 stopped"
    assert supervise.tell("start", target="pay.1")["done"] == "pay.1 running"
    assert [one["state"] for one in supervise.slots().values()] == ["RUNNING", "STOPPED"]
    assert supervise.tell("restart", target="pay.1")["done"] == "pay.1 restarted"
    assert runner.stop() == 0


def test_a_client_that_disconnects_does_not_affect_other_clients(supervise: Supervise) -> None:
    runner = up(supervise, DRAINS)
    answers: list[Any] = []
    other = threading.Thread(target=lambda: answers.append(supervise.tell("restart", target="child1")))
    other.start()
    runner.wait_for("child1.1: starting a new process")
    with socket.socket(socket.AF_UNIX) as connection, socket_path(supervise.folder / "var") as path:
        connection.connect(path)
        connection.sendall(b'{"version": 1, "command": "restart", "target": "child1"}\n')
        wait_until(lambda: connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) if readable(connection) else True)
    other.join(15)
    assert answers[0].get("done") == "child1.1 restarted"
    assert runner.stop() == 0


def readable(connection: socket.socket) -> bool:
    import select

    return bool(select.select([connection], [], [], 0)[0])


def test_a_good_version_replaces_a_bad_version_that_is_still_starting(supervise: Supervise) -> None:
    runner = up(supervise, {"service": "a", "source": SLEEPS, "revision": "1"}, start_timeout=30)
    first = runner.pid_of("a.1")
    bad = {"service": "a", "source": "time.sleep(600)", "revision": "2"}
    threading.Thread(target=supervise.tell, args=("reload",), kwargs={"programs": [bad]}, daemon=True).start()
    runner.wait_for("a.1: starting a new process before stopping the old process")
    good = {"service": "a", "source": SLEEPS, "revision": "3"}
    assert supervise.tell("reload", programs=[good])["done"] == "reloaded"
    second = runner.pid_of("a.1", count=2)
    wait_until(lambda: is_gone(first), 5)
    assert supervise.slots()["a.1"]["pid"] == second
    assert runner.stop() == 0


def test_if_a_later_instance_does_not_get_ready_the_earlier_instances_are_rolled_back(supervise: Supervise) -> None:
    once = "if os.path.exists('second'): sys.exit(1)\nif os.path.exists('first'): open('second', 'w').close()\n"
    runner = up(supervise, {"service": "a", "source": SLEEPS, "revision": "1", "instances": 2})
    (supervise.folder / "first").touch()
    new = {"service": "a", "source": once + SLEEPS, "revision": "2", "instances": 2}
    answer = supervise.tell("reload", programs=[new])
    assert plain(answer["error"]).startswith(
        "a.2: the new process did not become ready: exited with status 1; the old process keeps running; see: "
    )
    runner.wait_for("a.1: starting a new process before stopping the old process", count=2)
    wait_until(lambda: len(supervise.tell("status")["slots"]) == 2, 10)
    assert all(one["state"] == "RUNNING" for one in supervise.slots().values())
    assert "running an older version, because the new process did not become ready" in supervise.slots()["a.2"]["why"]
    assert supervise.tell("scale", target="a", instances=3)["done"] == "a scaled from 2 to 3", (
        "that was another command"
    )
    assert runner.stop() == 0


def test_a_reload_starts_a_fatal_service_again_even_without_changes(supervise: Supervise) -> None:
    program = {"service": "a", "source": "if not os.path.exists('there'): sys.exit(78)\n" + SLEEPS}
    runner = supervise(dict(program), SLEEPS)
    runner.wait_for("a.1 FATAL")
    runner.pid_of("child2.1")
    (supervise.folder / "there").touch()
    assert supervise.tell("reload", programs=[program, SLEEPS])["done"] == "reloaded"
    runner.wait_for("services: no change")
    assert supervise.slots()["a.1"]["state"] == "RUNNING"
    assert runner.stop() == 0


def test_a_restart_that_must_wait_reports_the_reason_and_completes_later(supervise: Supervise) -> None:
    runner = up(
        supervise,
        {"service": "base", "source": SLEEPS},
        {"service": "a", "source": SLEEPS, "depends_on": ["base"]},
    )
    supervise.tell("stop", target="base")
    started = time.monotonic()
    answer = supervise.tell("restart", target="a")
    assert answer["error"] == "a is waiting for base, which is STOPPED; the replacement will follow"
    assert time.monotonic() - started < 10
    assert supervise.slots()["a.1"]["state"] == "RUNNING", "the old process still works"
    supervise.tell("start", target="base")
    runner.pid_of("a.1", count=2)
    assert runner.stop() == 0


def test_a_start_during_a_stop_waits_for_both(supervise: Supervise) -> None:
    runner = up(supervise, DRAINS)
    threading.Thread(target=supervise.tell, args=("stop",), kwargs={"target": "child1"}, daemon=True).start()
    wait_until(lambda: supervise.slots()["child1.1"]["state"] == "STOPPING")
    assert supervise.tell("start", target="child1")["done"] == "child1.1 running"
    assert runner.stop() == 0


def test_a_stop_during_a_replacement_also_waits_for_the_old_process(supervise: Supervise) -> None:
    runner = up(supervise, DRAINS)
    first = runner.pid_of("child1.1")
    threading.Thread(target=supervise.tell, args=("restart",), kwargs={"target": "child1"}, daemon=True).start()
    runner.pid_of("child1.1", count=2)
    assert supervise.tell("stop", target="child1")["done"] == "child1.1 stopped"
    assert is_gone(first)
    assert runner.stop() == 0


def test_a_crash_of_the_old_process_does_not_end_its_replacement(supervise: Supervise) -> None:
    runner = up(supervise, {"service": "a", "source": SLEEPS, "revision": "1"}, exits=True, count=1, start_timeout=30)
    first = runner.pid_of("a.1")
    new = {"service": "a", "source": "time.sleep(1.5)\n" + SLEEPS, "revision": "2"}
    threading.Thread(target=supervise.tell, args=("reload",), kwargs={"programs": [new]}, daemon=True).start()
    runner.wait_for("a.1: starting a new process")
    os.kill(first, signal.SIGSEGV)
    runner.wait_for("a.1 FATAL")
    runner.pid_of("a.1", count=2)
    assert runner.stop() == 0


def test_a_program_that_cannot_be_executed_is_an_ordinary_failure(supervise: Supervise) -> None:
    runner = supervise({"source": SLEEPS, "environment": {"X": "a\0b"}}, SLEEPS, count=2)
    runner.wait_for("child1.1 FATAL, 2 failures within 20 s; the last: .*embedded null byte")
    runner.pid_of("child2.1")
    descriptors = Path(f"/proc/{runner.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    for number in range(3):
        assert "embedded null byte" in supervise.tell("start", target="child1")["error"]
        runner.wait_for("child1.1 FATAL", count=number + 2)
    wait_until(lambda: len(list(descriptors.iterdir())) <= before + 1, 5)
    assert runner.stop() == 1


def test_a_completed_job_remains_completed_after_a_stop(supervise: Supervise) -> None:
    runner = supervise(
        {"service": "job", "source": "ready()\nsys.exit(0)"},
        {"service": "a", "source": SLEEPS, "depends_on": ["job"]},
        restart="on-failure",
    )
    runner.pid_of("a.1")
    job = supervise.slots()["job.1"]
    assert (job["state"], job["why"], job["last_exit"]["words"]) == ("EXITED", "done", "exited with status 0")
    supervise.tell("stop", target="job")
    os.kill(supervise.slots()["a.1"]["pid"], signal.SIGKILL)
    runner.pid_of("a.1", count=2)
    assert supervise.tell("start", target="job")["done"] in ("job.1 done", "job.1 running")
    assert runner.stop() == 0


def test_a_service_scaled_to_zero_is_reported_and_delays_no_dependent_service(supervise: Supervise) -> None:
    runner = up(
        supervise,
        {"service": "base", "source": SLEEPS},
        {"service": "a", "source": SLEEPS, "depends_on": ["base"]},
    )
    assert supervise.tell("scale", target="base", instances=0)["done"] == "base scaled from 1 to 0"
    assert supervise.tell("status")["services"] == {"base": 0, "a": 1}
    os.kill(supervise.slots()["a.1"]["pid"], signal.SIGKILL)
    runner.pid_of("a.1", count=2)
    assert "base has no instances" in supervise.tell("restart", target="base")["error"]
    assert supervise.tell("scale", target="base", instances=1)["done"] == "base scaled from 0 to 1"
    assert runner.stop() == 0


def test_a_second_interrupt_restarts_nothing(supervise: Supervise) -> None:
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPS
    runner = up(
        supervise,
        {"service": "base", "source": SLEEPS},
        {"service": "a", "source": deaf, "depends_on": ["base"]},
        stop_timeout=30,
    )
    runner.process.send_signal(signal.SIGINT)
    runner.wait_for("stopping: SIGINT received")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 0.35)
    assert runner.stop() == 0
    assert "restarting" not in runner.output


def test_the_reason_of_a_kill_is_kept_with_the_exit(supervise: Supervise) -> None:
    runner = up(supervise, "ready()\nif not os.path.exists('hung'):\n    open('hung', 'w').close()\n"
                "    say('STATUS=at one message for too long', 'WATCHDOG=trigger')\ntime.sleep(600)")  # fmt: skip
    runner.pid_of("child1.1", count=2)
    last = supervise.slots()["child1.1"]["last_exit"]
    assert last["words"] == "killed by SIGABRT, at one message for too long"
    assert runner.stop() == 0


def test_a_child_that_reports_a_problem_is_not_healthy(supervise: Supervise) -> None:
    runner = up(supervise, SLEEPS.replace("ready()", "ready()\nsay('X_PROBLEM=the broker is away')"))
    # The child reports it after it was ready.
    slot = wait_until(lambda: (one := supervise.slots()["child1.1"])["problem"] and one, 10)
    assert (slot["state"], slot["problem"]) == ("RUNNING", "the broker is away")
    assert slot["why"] == "cannot work at present, retrying: the broker is away"
    with contextlib.closing(watch(supervise.folder)) as snapshots:
        entries = [(one["kind"], one["subject"], one["text"]) for one in next(snapshots)["timeline"]]
    assert ("broker", "child1.1", "cannot work at present, retrying: the broker is away") in entries
    refused = supervise.tell("note", kind="crashed", subject="child1.1", text="not the client's to tell")
    assert refused == {"error": "kind: unknown kind, 'crashed'; allowed: command, fault"}
    assert runner.stop() == 0


def test_a_supervisor_that_a_shell_executed_leaves_the_shells_earlier_children_alone(
    supervise: Supervise, tmp_path: Path
) -> None:
    script = 'setsid sleep 600 & echo $! > before; exec "$@"'
    runner = supervise(SLEEPS, prefix=("sh", "-c", script, "sh"))
    os.kill(runner.pid_of("child1.1"), signal.SIGKILL)
    runner.pid_of("child1.1", count=2)
    before = int((tmp_path / "before").read_text())
    assert not is_gone(before)
    assert runner.stop() == 0
    assert not is_gone(before)
    os.kill(before, signal.SIGKILL)


def test_a_guardian_that_sigstop_stopped_does_not_delay_the_exit(supervise: Supervise) -> None:
    runner = up(supervise, SLEEPS)
    (guardian,) = [pid for pid, command in runner.children().items() if "guardian" in command]
    os.kill(guardian, signal.SIGSTOP)
    assert runner.stop() == 0


def test_a_new_version_that_is_killed_at_each_start_is_finally_rejected(supervise: Supervise) -> None:
    runner = up(supervise, {"service": "a", "source": SLEEPS, "revision": "1"})
    first = runner.pid_of("a.1")
    new = {"service": "a", "source": "os.kill(os.getpid(), signal.SIGKILL)", "revision": "2"}
    answer = supervise.tell("reload", programs=[new])
    assert "a.1: the new process did not become ready: killed by SIGKILL" in answer["error"]
    runner.wait_for("a.1 \\(new process\\) killed by SIGKILL: restarting", count=4)
    assert supervise.slots()["a.1"]["pid"] == first
    assert runner.stop() == 0


def test_a_rejected_version_also_loses_its_number_of_instances(supervise: Supervise) -> None:
    old = {"service": "a", "source": SLEEPS, "revision": "1", "instances": 3}
    runner = up(supervise, dict(old))
    new = {"service": "a", "source": "sys.exit(1)", "revision": "2", "instances": 1}
    assert "the old process keeps running" in supervise.tell("reload", programs=[new])["error"]
    assert supervise.tell("reload", programs=[dict(old)])["done"] == "reloaded"
    wait_until(lambda: [one["state"] for one in supervise.slots().values()] == ["RUNNING"] * 3, 10)
    assert runner.stop() == 0


def test_an_old_process_that_is_killed_while_the_new_process_fails_is_restarted(supervise: Supervise) -> None:
    runner = up(supervise, {"service": "a", "source": "time.sleep(0.3)\n" + SLEEPS, "revision": "1"}, SLEEPS)
    first = runner.pid_of("a.1")
    new = {"service": "a", "source": "while not os.path.exists('fail'): time.sleep(0.01)\nsys.exit(1)", "revision": "2"}
    answers: list[Any] = []
    ask = threading.Thread(target=lambda: answers.append(supervise.tell("reload", programs=[new, SLEEPS])))
    ask.start()
    runner.wait_for("a.1: starting a new process")
    os.kill(first, signal.SIGKILL)
    (supervise.folder / "fail").touch()
    ask.join(20)
    assert "the old process keeps running" in answers[0]["error"]
    runner.pid_of("a.1", count=2)
    assert runner.stop() == 0


def test_a_stray_process_is_killed_after_the_exit_of_all_possible_parents(supervise: Supervise, tmp_path: Path) -> None:
    sleep = "import time; time.sleep(600)"
    runner = up(
        supervise,
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
        "    open('stranger', 'w').write(str(os.getpid()))\n"
        f"    os.execve(sys.executable, [sys.executable, '-c', {sleep!r}], {{}})\n" + SLEEPS,
        SLEEPS,
    )
    stranger = int(wait_until(lambda: (tmp_path / "stranger").exists() and (tmp_path / "stranger").read_text()))
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 1.5)  # the supervisor sees the process while both children live
    os.kill(runner.pid_of("child2.1"), signal.SIGKILL)
    runner.pid_of("child2.1", count=2)
    assert not is_gone(stranger)
    os.kill(runner.pid_of("child1.1"), signal.SIGKILL)
    wait_until(lambda: is_gone(stranger), 5)
    assert runner.stop() == 0


def test_a_port_stays_open_after_each_exit_until_the_next_process_is_ready(supervise: Supervise) -> None:
    port = free_port()
    runner = up(
        supervise,
        f"""
        if os.path.exists("slow"): time.sleep(1)
        say("LISTEN=127.0.0.1 {port}")
        answer = socket.recv_fds(line, 100, 1)
        ready()
        time.sleep(600)
        """,
    )
    began = time.monotonic()
    os.kill(runner.pid_of("child1.1"), signal.SIGKILL)
    second = runner.pid_of("child1.1", count=2)
    (supervise.folder / "slow").touch()
    wait_until(lambda: time.monotonic() - began > 1.2)
    os.kill(second, signal.SIGKILL)
    # The host releases a port 1.5 s after a process exits. The first such time ends while the third process starts.
    # Only a few connections are opened at a time, because no process accepts them and the backlog is limited.
    for instant in (1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9):
        wait_until(lambda instant=instant: time.monotonic() - began > instant)  # type: ignore[misc]
        socket.create_connection(("127.0.0.1", port), 5).close()
    runner.pid_of("child1.1", count=3)
    assert runner.stop() == 0
