"""The ``fault kill`` and ``fault pause`` commands."""

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
from runner.faults.scenario import KILL, PAUSE, report
from runner.invocation import invocation
from runner.proc import Identity, command_line

#: Seconds to wait for a process to exit, which a slow disk can delay.
EXIT_TIME = 5.0
#: Seconds after which the broker closes a silent connection (two heartbeats).
HEARTBEATS = 20.0
#: The maximum and minimum seconds between two watchdog pings, and the number of pings within the ``watchdog`` time.
SLOWEST, FASTEST, PINGS = 10.0, 0.1, 3


@click.command(short_help="Kill one process of a service.")
@click.argument("target", metavar="SERVICE[.N]")
@as_json
@click.pass_obj
def kill(folder: Path, target: str, is_json: bool) -> None:
    """Send SIGKILL to one process of a service, either to the given slot or to any RUNNING process."""
    fault_project = FaultProject.of(folder)
    name, slot, pid = fault_project.slot(target)
    _kill(slot, _worker(slot, pid))
    facts = {**fault_project.facts(name, fault_project.service(name)), "slot": slot, "pid": pid}
    report(folder, KILL, slot, {"pid": pid}, facts, is_json=is_json)


@click.command(short_help="Pause one process of a service, as if the process hung.")
@click.argument("target", metavar="SERVICE[.N]")
@click.argument("seconds", metavar="[10s]", type=PERIOD, default="10s")
@as_json
@click.pass_obj
def pause(folder: Path, target: str, seconds: float, is_json: bool) -> None:
    """Stop one process of a service with SIGSTOP, and resume the process with SIGCONT after the given time.

    A separate process sends both signals, so the stopped process is resumed even if this command is killed.
    """
    fault_project = FaultProject.of(folder)
    name, slot, pid = fault_project.slot(target)
    until = _stop(fault_project.faults.path, slot, _worker(slot, pid), seconds)
    service = fault_project.service(name)
    facts = {**fault_project.facts(name, service), **_ends(service, seconds), "slot": slot, "pid": pid}
    facts["seconds"] = format_duration(seconds)
    report(folder, PAUSE, slot, {"pid": pid, "seconds": seconds, "until": until}, facts, is_json=is_json)


def _ends(service: ServiceSettings, seconds: float) -> dict[str, object]:
    """Return the facts about the watchdog and the handler timeout for a pause of ``seconds``."""
    watchdog, limit = service.watchdog, service.handler_timeout
    # The maximum age of the last watchdog ping.
    age = max(FASTEST, min(SLOWEST, min(one for one in (watchdog, limit) if one) / PINGS)) if watchdog else 0.0
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
    """Start the process that pauses a worker. Return the end of the pause in seconds since the epoch.

    Raises RunnerError with the reason if the worker is not paused.
    """
    command = [sys.executable, "-m", release.__name__, str(faults.parent.resolve()), slot]
    with subprocess.Popen(
        [*command, str(process.pid), str(process.start), str(seconds)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None  # noqa: S101 - for the type checker
        word, _, rest = child.stdout.readline().rstrip("\n").partition(" ")
        # The return code is set, because Popen would otherwise wait for the child process, which outlives this command.
        child.returncode = 0
    if word == release.STOPPED:
        return float(rest)
    ended = f"{slot}: the pausing process exited too early; see: {invocation('fault', 'list')}"
    raise RunnerError(rest or ended)


def _worker(slot: str, pid: int) -> Identity:
    """Return a slot's worker process.

    Raises RunnerError if the worker has exited, because another process may then have its pid.
    """
    process = Identity.of(pid)
    if process is not None and b"runner.worker" in command_line(pid):
        return process
    raise RunnerError(f"{slot}: pid {pid} has just exited; try again")


def _kill(slot: str, process: Identity) -> None:
    try:
        end = os.pidfd_open(process.pid)
        try:
            process.send(signal.SIGKILL)
            select.select([end], [], [], EXIT_TIME)
        finally:
            os.close(end)
    except ProcessLookupError:
        raise RunnerError(f"{slot}: pid {process.pid} has just exited; try again") from None
    except PermissionError:
        what = f"pid {process.pid} belongs to another user; run the command as that user or as root"
        raise RunnerError(f"{slot}: {what}") from None
