"""``fault kill`` and ``fault hang``: end or stop one process of a service."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import click

from runner.config.config_file import ServiceSettings
from runner.config.value import format_duration
from runner.errors import RunnerError
from runner.faults import release
from runner.faults.fault_project import PERIOD, FaultProject, as_json
from runner.faults.scenario import HANG, KILL, report
from runner.invocation import invocation
from runner.proc import Identity, command_line

#: Seconds for a process to be gone; one that writes to a slow disk takes its time.
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
    lab = FaultProject.of(folder)
    name, slot, pid = lab.slot(target)
    _kill(slot, _worker(slot, pid))
    facts = {**lab.facts(name, lab.service(name)), "slot": slot, "pid": pid}
    report(KILL, slot, {"pid": pid}, facts, is_json=is_json)


@click.command(short_help="Stop one process of a service for a while, as if it hung.")
@click.argument("target", metavar="SERVICE[.N]")
@click.argument("seconds", metavar="[10s]", type=PERIOD, default="10s")
@as_json
@click.pass_obj
def hang(folder: Path, target: str, seconds: float, is_json: bool) -> None:
    """Stop one process of a service by SIGSTOP, and let it go on after a time by SIGCONT.

    A small process of its own does both, so that it goes on also where this command is killed.
    """
    lab = FaultProject.of(folder)
    name, slot, pid = lab.slot(target)
    until = _stop(lab.faults.path, slot, _worker(slot, pid), seconds)
    service = lab.service(name)
    facts = {**lab.facts(name, service), **_ends(service, seconds), "slot": slot, "pid": pid}
    facts["seconds"] = format_duration(seconds)
    report(HANG, slot, {"pid": pid, "seconds": seconds, "until": until}, facts, is_json=is_json)


def _ends(service: ServiceSettings, seconds: float) -> dict[str, object]:
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


def _stop(faults: Path, slot: str, process: Identity, seconds: float) -> float:
    """Have a process of its own stop a worker for so long; returns when that is over, in seconds since the epoch."""
    command = [sys.executable, "-m", release.__name__, str(faults.parent.resolve()), slot]
    with subprocess.Popen(
        [*command, str(process.pid), str(process.start), str(seconds)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None  # noqa: S101 - for the type checker
        word, _, rest = child.stdout.readline().rstrip("\n").partition(" ")
        # It outlives this process, which is not to wait for it.
        child.returncode = 0
    if word == release.STOPPED:
        return float(rest)
    ended = f"{slot}: what was to stop it has ended too soon; see: {invocation('fault', 'list')}"
    raise RunnerError(rest or ended)


def _worker(slot: str, pid: int) -> Identity:
    """The worker of a slot. Raises RunnerError where it has ended, and somebody else may have its pid."""
    process = Identity.of(pid)
    if process is not None and b"runner.worker" in command_line(pid):
        return process
    raise RunnerError(f"{slot}: pid {pid} has just ended; try again")


def _kill(slot: str, process: Identity) -> None:
    try:
        end = os.pidfd_open(process.pid)
        try:
            process.send(signal.SIGKILL)
            select.select([end], [], [], END_TIME)
        finally:
            os.close(end)
    except ProcessLookupError:
        raise RunnerError(f"{slot}: pid {process.pid} has just ended; try again") from None
    except PermissionError:
        raise RunnerError(f"{slot}: pid {process.pid} is another user's; be that user, or root") from None
