"""``run``: put the system together and supervise it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runner.address import Address
from runner.broker.find import Answering, PrivateNode, find_broker
from runner.cli.check import checked_project
from runner.cli.controls import attach_controls
from runner.cli.declaration import Declaration, FoundBroker
from runner.cli.programs import broker_program, programs_of
from runner.cli.reload import Reload
from runner.cli.terminal import has_colour, take_foreground
from runner.cli.watch import Watch
from runner.config.project import Project
from runner.errors import BrokerAway
from runner.supervisor.console import Console
from runner.supervisor.journal import Journal
from runner.supervisor.lock import take_lock
from runner.supervisor.logfile import LogFiles
from runner.supervisor.loop import Supervisor
from runner.supervisor.program import Program
from runner.supervisor.transition import Listener, history
from runner.supervisor.writer import Writer
from runner.topology.model import Objects


@click.command()
@click.argument("services", nargs=-1)
@click.option("--watch", is_flag=True, help="Take over what is saved in either file or in a plugin while running.")
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How lines look."
)
@click.pass_obj
def run(folder: Path, services: tuple[str, ...], watch: bool, log_format: str) -> None:
    """Run the services until Ctrl-C.

    Declares topology.yaml on the broker first. Without SERVICES, all of config.yaml run. A second Ctrl-C kills what
    has not stopped yet.
    """
    take_foreground()
    project, objects = checked_project(folder)

    def programs(project: Project, objects: Objects) -> list[Program]:
        return programs_of(project, objects, services, log_format)

    chosen = programs(project, objects)
    with take_lock(project.var):
        broker = _find_broker(project)
        width = max(len(f"{one.service}.{one.instances}") for one in (*chosen, *broker_program(broker)))
        writers: list[Writer] = [Console(log_format=log_format, colour=has_colour(), width=max(width, 8))]
        listeners: list[Listener] = []
        if (logs := project.config.runner.logs) is not None:
            files = LogFiles(project.var / "log", logs.max_size, logs.keep, log_format)
            writers.append(files)
            listeners.append(history(files))
        journal = Journal(*writers)
        journal.say(_broker_words(broker, project))
        declaration = Declaration(project, broker, journal)
        exits = project.config.runner.on_fatal == "exit"
        all_programs = [*broker_program(broker), *chosen]
        supervisor = Supervisor(all_programs, declaration.prepare, journal, listeners, exits_on_fatal=exits)
        reload = Reload(folder, declaration, programs, supervisor.update, journal)
        attach_controls(supervisor, project.var, reload, declaration)
        if watch:
            Watch(folder, reload).start()
        code = supervisor.run()
        journal.close()
    sys.exit(code)


def _find_broker(project: Project) -> FoundBroker:
    settings = project.config.broker
    try:
        return find_broker(settings.url, settings.start, project.var / "broker")
    except BrokerAway as error:
        return error  # it may come yet: the services wait for it


def _broker_words(broker: FoundBroker, project: Project) -> str:
    if isinstance(broker, BrokerAway):
        return str(broker)
    if isinstance(broker, Answering):
        return f"using the RabbitMQ that answers on {Address.of(broker.url)}"
    how = "a private RabbitMQ" if isinstance(broker, PrivateNode) else "RabbitMQ in a container"
    return f"no broker answers: starting {how} on {Address.of(broker.url)}, its data in {project.var / 'broker'}"
