"""``run``: put the system together and supervise it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runner.address import Address
from runner.broker.find import Answering, Container, PrivateNode, find_broker
from runner.cli.check import checked_project
from runner.cli.declaration import Declaration, FoundBroker
from runner.cli.terminal import has_colour, take_foreground
from runner.cli.watch import Watch
from runner.config.project import Project, choose_services
from runner.errors import BrokerAway
from runner.plugins import revision_of
from runner.supervisor.console import Console
from runner.supervisor.lock import take_lock
from runner.supervisor.loop import Supervisor
from runner.supervisor.program import Program
from runner.supervisor.state import Policy
from runner.topology.model import Objects
from runner.worker.spec import spec_of

#: The broker may take its time to start; it stops after the services, and all together within 10 s.
BROKER_POLICY = Policy(start_timeout=90.0, stop_timeout=3.5)


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

    def programs_of(project: Project, objects: Objects) -> list[Program]:
        return _programs(project, objects, choose_services(project.config, services), log_format)

    programs = programs_of(project, objects)
    with take_lock(project.var):
        broker = _find_broker(project)
        width = max((len(one.slot) for one in programs), default=8)
        console = Console(log_format=log_format, colour=has_colour(), width=width)
        console.say(_broker_words(broker, project))
        declaration = Declaration(project, broker, console)
        supervisor = Supervisor([*_broker_program(broker), *programs], declaration.prepare, console)
        if watch:
            Watch(folder, declaration, programs_of, supervisor.update, console).start()
        code = supervisor.run()
        console.close()
    sys.exit(code)


def _broker_program(broker: FoundBroker) -> list[Program]:
    if not isinstance(broker, PrivateNode | Container):
        return []
    command = tuple(broker.command)
    return [Program("broker.1", command, b"", broker.environment, BROKER_POLICY, after_prepare=False)]


def _find_broker(project: Project) -> FoundBroker:
    settings = project.config.broker
    try:
        return find_broker(settings.url, settings.start, project.var / "broker")
    except BrokerAway as error:
        return error  # it may come yet: the services wait for it


def _programs(project: Project, objects: Objects, chosen: dict[str, int], log_format: str) -> list[Program]:
    return [
        Program(
            slot=f"{service}.{number}",
            command=(sys.executable, "-m", "runner.worker", f"{service}.{number}"),
            stdin=spec_of(project, objects, service, log_format).to_json(),
            revision=revision_of(project.config.services[service].plugin or service, project.folder),
        )
        for service, instances in chosen.items()
        for number in range(1, instances + 1)
    ]


def _broker_words(broker: FoundBroker, project: Project) -> str:
    if isinstance(broker, BrokerAway):
        return str(broker)
    if isinstance(broker, Answering):
        return f"using the RabbitMQ that answers on {Address.of(broker.url)}"
    how = "a private RabbitMQ" if isinstance(broker, PrivateNode) else "RabbitMQ in a container"
    return f"no broker answers: starting {how} on {Address.of(broker.url)}, its data in {project.var / 'broker'}"
