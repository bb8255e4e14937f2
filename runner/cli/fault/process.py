"""``fault kill`` and ``fault hang``: end or stop one process of a service."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from runner.cli.fault import release
from runner.cli.fault.lab import Lab
from runner.cli.fault.report import PERIOD, as_json, report
from runner.cli.fault.scenario import HANG, KILL
from runner.config.settings import Service
from runner.config.value import format_duration
from runner.errors import RunnerError
from runner.worker.fault import Active

#: Seconds that what lets the process go on may take to start.
START_TIME = 10.0
#: Seconds for a process to be gone or stopped; one that writes to a slow disk takes its time.
END_TIME = 5.0
#: Seconds after which the broker gives what a silent connection held to others: two heartbeats.
HEARTBEATS = 20.0
#: At most and at least between two signs of life, in seconds, and how many there are in a watchdog's time.
SLOWEST, FASTEST, SIGNS = 10.0, 0.1, 3


@click.command(short_help="SIGKILL one process of a service.")
@click.argument("target", metavar="SERVICE[.N]")
@as_json
@click.pass_obj
def kill(folder: Path, target: str, is_json: bool) -> None:
    """Kill one process of a service by SIGKILL: any one of them, or the one that is named."""
    lab = Lab.of(folder)
    name, slot, pid = lab.slot(target)
    _send(slot, pid, signal.SIGKILL)
    facts = {**lab.facts(name, lab.service(name)), "slot": slot, "pid": pid}
    report(lab, KILL, slot, {"pid": pid}, facts, is_json=is_json)


@click.command(short_help="Stop one process of a service for a while, as if it hung.")
@click.argument("target", metavar="SERVICE[.N]")
@click.argument("seconds", metavar="[10s]", type=PERIOD, default="10s")
@as_json
@click.pass_obj
def hang(folder: Path, target: str, seconds: float, is_json: bool) -> None:
    """Stop one process of a service by SIGSTOP, and let it go on after a time by SIGCONT.

    A small process of its own does the latter, also where this command is killed.
    """
    lab = Lab.of(folder)
    name, slot, pid = lab.slot(target)
    key = f"hang.{slot}"
    lab.faults.write(key, Active("hang", slot, time.time() + seconds + START_TIME))
    _start_release(pid, seconds, lab.faults.file(key))
    until = time.time() + seconds  # only now does its time begin
    lab.faults.write(key, Active("hang", slot, until))
    _send(slot, pid, signal.SIGSTOP)
    service = lab.service(name)
    facts = {**lab.facts(name, service), **_ends(service, seconds), "slot": slot, "pid": pid}
    facts["seconds"] = format_duration(seconds)
    report(lab, HANG, slot, {"pid": pid, "seconds": seconds, "until": until}, facts, is_json=is_json)


def _ends(service: Service, seconds: float) -> dict[str, object]:
    """What the watchdog and the handler timeout make of a process that is stopped for so long."""
    watchdog, limit = service.watchdog, service.handler_timeout
    # The last sign of life may be as old as this.
    age = max(FASTEST, min(SLOWEST, min(one for one in (watchdog, limit) if one) / SIGNS)) if watchdog else 0.0
    return {
        "watchdog": format_duration(watchdog),
        "handler_timeout": format_duration(limit),
        "long": bool(service.consumes) and min(seconds, watchdog or seconds) > HEARTBEATS,
        "dies": 0 < watchdog <= seconds,
        "may_die": watchdog > 0 and watchdog - age <= seconds < watchdog,
        "lives": watchdog > 0 and seconds < watchdog - age,
        "unwatched": not watchdog,
        "timed": bool(service.consumes and limit),
        "overdue": bool(service.consumes and limit) and seconds > limit and not 0 < watchdog <= seconds,
    }


def _start_release(pid: int, seconds: float, file: Path) -> None:
    command = [sys.executable, "-I", "-S", release.__file__, str(pid), str(seconds), str(file.resolve())]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdout is not None  # noqa: S101 - for the type checker
    with process.stdout as stream:
        if stream.readline() != b"ready\n":
            file.unlink(missing_ok=True)
            raise RunnerError(f"hang: pid {pid} is not there any more, or nothing can let it go on; it was not stopped")
    # It outlives this process, which is not to wait for it.
    process.returncode = 0


def _wait_stopped(pid: int) -> None:
    """Wait until a process that was sent SIGSTOP is stopped, which a busy machine comes to a little later."""
    deadline = time.monotonic() + END_TIME
    # The state follows the name, which may hold any character (proc(5)).
    while Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"T", b"t"):
        if time.monotonic() >= deadline:
            return
        time.sleep(0.005)


def _send(slot: str, pid: int, number: signal.Signals) -> None:
    """Send a signal to a worker, and to nobody who has its pid by now."""
    try:
        process = os.pidfd_open(pid)
        try:
            if b"runner.worker" not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                raise ProcessLookupError
            signal.pidfd_send_signal(process, number)
            if number == signal.SIGKILL:
                select.select([process], [], [], END_TIME)
            else:
                _wait_stopped(pid)
        finally:
            os.close(process)
    except (ProcessLookupError, FileNotFoundError):
        raise RunnerError(f"{slot}: pid {pid} has just ended; try again") from None
    except PermissionError:
        raise RunnerError(f"{slot}: pid {pid} is another user's; be that user, or root") from None
