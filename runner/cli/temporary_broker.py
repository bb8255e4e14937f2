"""A broker for one command: the one that answers, or the project's own private one, started for as long as it takes."""

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
from runner.errors import AlreadyRunning, BrokerAway, RunnerError
from runner.supervisor.control.client import ask
from runner.supervisor.lock import holder_of, take_lock
from runner.supervisor.processes.process import Process
from runner.supervisor.program import Program

#: Seconds for a broker to start, and to stop.
START_TIMEOUT, STOP_TIMEOUT = 90.0, 10.0
#: Seconds for a runner to say where its broker answers.
RUNNER_TIMEOUT = 5.0


@contextlib.contextmanager
def broker_for(project: Project) -> Iterator[str | None]:
    """The address of the HTTP API of a broker that answers meanwhile, or None where it is the usual one.

    Raises BrokerAway where none answers and none can be started.
    """
    settings = project.config.broker
    folder = project.var / "broker"
    found = find_broker(settings.url, settings.autostart, folder)
    if isinstance(found, Answering):
        yield known_management(settings.url, folder) or _told_by_runner(project, Address.of(found.url))
        return
    with _held(project, found):
        address = Address.of(found.url)
        click.echo(f"no broker answers: starting the project's own on {address} for this command", err=True)
        # The node itself warns in its output, which is not shown.
        change = Folder(folder).login_change(address.login)
        if change is not None and isinstance(found, PrivateNode):
            click.echo(f"warning: {change}", err=True)
        process = _started(found)
        try:
            yield found.management_url
        finally:
            _stop(process)


def _told_by_runner(project: Project, address: Address) -> str | None:
    """Return the URL of the HTTP API if the runner here runs this broker, such as a container, or None."""
    try:
        answers = list(ask(project.folder, "status", patience=RUNNER_TIMEOUT))
    except RunnerError:
        return None  # no runner, or one that does not answer
    for slot in answers[-1].get("slots", ()):
        endpoint = slot.get("endpoint")
        if endpoint is not None and address.loopback and endpoint["port"] == address.port:
            return str(endpoint["management"])
    return None


def _held(project: Project, found: Startable) -> IO[str]:
    """The project's folder, so that no runner starts the same broker."""
    try:
        return take_lock(project.var)
    except AlreadyRunning:
        # It has a broker elsewhere, or is about to have one; to end it would help nobody.
        pid = holder_of(project.var) or "unknown"
        raise BrokerAway(
            f"{Address.of(found.url)}: no broker answers, though a runner runs here (pid {pid}); it waits for it too,"
            " or uses another address: is RABBITMQ_URL set there as here?"
        ) from None


def _started(found: Startable) -> Process:
    process = Process(Program("broker", tuple(found.command), environment=found.environment), "broker.1")
    # Nobody reads what it prints, but it must never wait for that.
    output = os.fdopen(process.output, "rb", buffering=0)
    threading.Thread(target=_drain, args=(output,), daemon=True).start()
    said, deadline = b"", time.monotonic() + START_TIMEOUT
    while b"READY=1" not in said:
        readable, _, _ = select.select([process.lifeline], [], [], max(0.0, deadline - time.monotonic()))
        data = process.lifeline.recv(4096) if readable else b""
        if not data:
            _stop(process)
            *_, last = [b"", *said.splitlines()]
            words = last.decode("utf-8", "replace").removeprefix("STATUS=")
            raise BrokerAway(f"the project's own broker does not start, {words or 'without a word'}")
        said += data
    return process


def _drain(output: object) -> None:
    with contextlib.suppress(OSError, ValueError):
        while output.read(65536):  # type: ignore[attr-defined]
            pass


def _stop(process: Process) -> None:
    process.terminate()
    readable, _, _ = select.select([process.exit_descriptor], [], [], STOP_TIMEOUT)
    if not readable:
        process.kill()
    process.reap()
