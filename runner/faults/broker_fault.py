"""The ``fault broker-restart`` command, which kills the private broker. The supervisor restarts the broker."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import click

from runner.address import Address
from runner.broker.probe import Kind, probe
from runner.errors import BrokerUnreachable, RunnerError
from runner.faults.fault_project import PERIOD, FaultProject, as_json
from runner.faults.scenario import BROKER_RESTART, report
from runner.invocation import invocation
from runner.proc import command_line

#: The Python module that runs the private RabbitMQ, and the broker's service and slot names.
PROGRAM, SERVICE, SLOT = b"runner.broker.node", "broker", "broker.1"
#: Seconds within which the restarted broker must answer.
START_TIME = 90.0


@click.command("broker-restart", short_help="Kill the private RabbitMQ.")
@click.option(
    "--after",
    "delay",
    type=PERIOD,
    help="The delay before the kill, for example to leave time for posting orders.  [default: 0s]",
)
@as_json
@click.pass_obj
def broker_restart(folder: Path, delay: float | None, is_json: bool) -> None:
    """Kill the private RabbitMQ with SIGKILL, and print the time until the broker answers again."""
    fault_project = FaultProject.of(folder)
    _own_node(fault_project)
    time.sleep(delay or 0.0)
    pid = _own_node(FaultProject.of(folder))
    # The node and its parent process receive the signal at the same time. If only the node were killed, its parent
    # would report a failure, and the supervisor would give up on the broker after five failures in a minute.
    killed = time.monotonic()
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        raise RunnerError(f"{SLOT}: pid {pid} has just exited; try again") from None
    seconds = round(_until_it_answers(fault_project, pid) - killed, 1)
    report(
        folder, BROKER_RESTART, SERVICE, {"pid": pid, "seconds": seconds}, {"pid": pid, "seconds": seconds},
        is_json=is_json,
    )  # fmt: skip


def _own_node(fault_project: FaultProject) -> int:
    """Return the pid of the process that runs the private node. Raises RunnerError for any other broker."""
    where = ", ".join(str(Address.of(url)) for url in fault_project.project.config.broker.url)
    slot = next((one for one in fault_project.status["slots"] if one["service"] == SERVICE), None)
    if slot is None:
        raise RunnerError(
            f"broker: not private, because the broker at {where} was running before the supervisor started;"
            " allowed: the private RabbitMQ that the supervisor starts if no broker answers"
        )
    pid = slot["pid"]
    if pid is None or slot["state"] != "RUNNING":
        raise RunnerError(f"broker: {SLOT} is {slot['state']}; wait until {SLOT} is RUNNING")
    words: list[bytes] = []
    with contextlib.suppress(OSError):
        if os.getpgid(pid) == pid:
            words = command_line(pid)
    if PROGRAM not in words:
        raise RunnerError("broker: runs in a container; allowed: a private RabbitMQ outside a container")
    return int(pid)


def _until_it_answers(fault_project: FaultProject, pid: int) -> float:
    """Wait for the broker, and return the monotonic time of its first answer. Raises BrokerUnreachable."""
    deadline = time.monotonic() + START_TIME
    addresses = [Address.of(url) for url in fault_project.project.config.broker.url]
    while time.monotonic() < deadline:
        if not Path(f"/proc/{pid}").exists() and any(probe(one).kind is Kind.BROKER for one in addresses):
            return time.monotonic()
        time.sleep(0.05)
    raise BrokerUnreachable(f"broker: no answer within {START_TIME:g} s; see: {invocation('logs', 'broker')}")
