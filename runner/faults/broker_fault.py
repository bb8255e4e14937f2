"""``fault broker-restart``: kill the private RabbitMQ, and see how long it takes to come back."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import click

from runner.address import Address
from runner.broker.probe import Kind, probe
from runner.errors import BrokerAway, RunnerError
from runner.faults.fault_project import PERIOD, FaultProject, as_json
from runner.faults.scenario import BROKER_RESTART, report
from runner.invocation import invocation
from runner.proc import command_line

#: The program, and its service and slot, by which the runner keeps a RabbitMQ of its own.
PROGRAM, SERVICE, SLOT = b"runner.broker.node", "broker", "broker.1"
#: Seconds for it to answer again.
START_TIME = 90.0


@click.command("broker-restart", short_help="Kill the private RabbitMQ that the runner keeps.")
@click.option("--after", "delay", type=PERIOD, help="Wait so long before, as to post orders meanwhile.  [default: 0s]")
@as_json
@click.pass_obj
def broker_restart(folder: Path, delay: float | None, is_json: bool) -> None:
    """Kill the private RabbitMQ that the runner keeps, with kill -9, and say how long it takes to answer again."""
    lab = FaultProject.of(folder)
    _own_node(lab)
    time.sleep(delay or 0.0)
    pid = _own_node(FaultProject.of(folder))
    # The node and what keeps it, in one instant: alone, what keeps it would report a failure of RabbitMQ's, and five
    # of those within a minute would have the broker given up.
    killed = time.monotonic()
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        raise RunnerError(f"{SLOT}: pid {pid} has just ended; try again") from None
    seconds = round(_until_it_answers(lab, pid) - killed, 1)
    report(
        BROKER_RESTART, SERVICE, {"pid": pid, "seconds": seconds}, {"pid": pid, "seconds": seconds},
        is_json=is_json,
    )  # fmt: skip


def _own_node(lab: FaultProject) -> int:
    """The pid of what runs the private node. Raises RunnerError where the broker is any other one."""
    where = ", ".join(str(Address.of(url)) for url in lab.project.config.broker.url)
    slot = next((one for one in lab.status["slots"] if one["service"] == SERVICE), None)
    if slot is None:
        raise RunnerError(
            f"broker: the one at {where} was there before the runner, which does not keep it;"
            " allowed: the private RabbitMQ that the runner starts where none answers"
        )
    pid = slot["pid"]
    if pid is None or slot["state"] != "RUNNING":
        raise RunnerError(f"broker: {SLOT} is {slot['state']}; wait until it is RUNNING")
    words: list[bytes] = []
    with contextlib.suppress(OSError):
        if os.getpgid(pid) == pid:
            words = command_line(pid)
    if PROGRAM not in words:
        raise RunnerError("broker: the runner keeps it in a container; allowed: a private RabbitMQ without one")
    return int(pid)


def _until_it_answers(lab: FaultProject, pid: int) -> float:
    """When it answers again, by the monotonic clock. Raises BrokerAway."""
    deadline = time.monotonic() + START_TIME
    addresses = [Address.of(url) for url in lab.project.config.broker.url]
    while time.monotonic() < deadline:
        if not Path(f"/proc/{pid}").exists() and any(probe(one).kind is Kind.BROKER for one in addresses):
            return time.monotonic()
        time.sleep(0.05)
    raise BrokerAway(f"broker: it does not answer within {START_TIME:g} s; see: {invocation('logs', 'broker')}")
