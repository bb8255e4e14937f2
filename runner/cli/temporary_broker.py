"""The broker for one command: a running broker, or a private node that is stopped after the command."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator
from typing import IO

import click

from runner.address import Address
from runner.broker.find import Answering, PrivateNode, Startable, find_broker, known_management
from runner.broker.folder import Folder
from runner.config.project import Project
from runner.errors import AlreadyRunning, BrokerUnreachable, RunnerError
from runner.supervisor.control.client import ask
from runner.supervisor.lock import holder_of, take_lock
from runner.supervisor.processes.process import Process
from runner.supervisor.program import Program

#: The time limits for starting and for stopping a broker, in seconds.
START_TIMEOUT, STOP_TIMEOUT = 90.0, 10.0
#: Seconds within which a supervisor must report the address of its broker.
RUNNER_TIMEOUT = 5.0


@contextlib.contextmanager
def broker_for(project: Project) -> Iterator[str | None]:
    """Yield the URL of the broker's HTTP API, or None if the URL follows RabbitMQ's port convention.

    Raises BrokerUnreachable if no broker answers and no broker can be started.
    """
    settings = project.config.broker
    folder = project.var / "broker"
    found = find_broker(settings.url, settings.autostart, folder)
    if isinstance(found, Answering):
        yield known_management(settings.url, folder) or _reported_by_supervisor(project, Address.of(found.url))
        return
    with _held(project, found):
        address = Address.of(found.url)
        click.echo(f"no broker answers; starting the private RabbitMQ on {address} for this command", err=True)
        # The node also prints this warning, but the node's output is not shown.
        change = Folder(folder).login_change(address.login)
        if change is not None and isinstance(found, PrivateNode):
            click.echo(f"warning: {change}", err=True)
        process = start_process(found)
        try:
            yield found.management_url
        finally:
            stop_process(process)


def _reported_by_supervisor(project: Project, address: Address) -> str | None:
    """Return the URL of the HTTP API if the supervisor of this folder runs the broker in a container, else None."""
    try:
        answers = list(ask(project.folder, "status", patience=RUNNER_TIMEOUT))
    except RunnerError:
        return None  # no supervisor, or no answer
    for slot in answers[-1].get("slots", ()):
        endpoint = slot.get("endpoint")
        if endpoint is not None and address.loopback and endpoint["port"] == address.port:
            return str(endpoint["management"])
    return None


def _held(project: Project, found: Startable) -> IO[str]:
    """Lock the project's folder, so that no supervisor starts the same broker."""
    try:
        return take_lock(project.var)
    except AlreadyRunning:
        # The error does not recommend stopping the supervisor, because the supervisor's broker may be on another
        # machine or about to answer.
        pid = holder_of(project.var) or "unknown"
        raise BrokerUnreachable(
            f"{Address.of(found.url)}: no broker answers, although a supervisor is running in this folder (pid {pid})."
            " It waits for the same broker, or uses another address; compare RABBITMQ_URL in both environments"
        ) from None


def start_process(found: Startable) -> Process:
    """Start a broker, and return its process when it is ready. Raises BrokerUnreachable with the reason."""
    process = Process(Program("broker", tuple(found.command), environment=found.environment), "broker.1")
    # The output is read and discarded, because a full pipe would block the process.
    output = os.fdopen(process.output, "rb", buffering=0)
    threading.Thread(target=_drain, args=(output,), daemon=True).start()
    status, deadline = b"", time.monotonic() + START_TIMEOUT
    while b"READY=1" not in status:
        readable, _, _ = select.select([process.lifeline], [], [], max(0.0, deadline - time.monotonic()))
        data = process.lifeline.recv(4096) if readable else b""
        if not data:
            stop_process(process)
            *_, last = [b"", *status.splitlines()]
            words = last.decode("utf-8", "replace").removeprefix("STATUS=")
            raise BrokerUnreachable(f"the private RabbitMQ did not start: {words or 'unknown reason'}")
        status += data
    return process


def _drain(output: IO[bytes]) -> None:
    with output, contextlib.suppress(OSError):
        while output.read(65536):
            pass


def stop_process(process: Process) -> None:
    """Stop a broker, and wait until its process has exited."""
    process.terminate()
    readable, _, _ = select.select([process.exit_descriptor], [], [], STOP_TIMEOUT)
    if not readable:
        process.kill()
    process.reap()
