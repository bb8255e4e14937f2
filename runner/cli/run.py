"""``run``: put the system together and supervise it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runner.address import Address
from runner.broker.find import Answering, Container, PrivateNode, find_broker
from runner.cli.check import checked_project
from runner.cli.terminal import has_colour, take_foreground
from runner.config.project import Project, choose_services
from runner.errors import BrokerAway, DeclarationRefused
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
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How lines look."
)
@click.pass_obj
def run(folder: Path, services: tuple[str, ...], log_format: str) -> None:
    """Run the services until Ctrl-C.

    Declares topology.yaml on the broker first. Without SERVICES, all of config.yaml run. A second Ctrl-C kills what
    has not stopped yet.
    """
    take_foreground()
    project, objects = checked_project(folder)
    chosen = choose_services(project.config, services)
    lock = take_lock(project.var)
    with lock:
        broker = _find_broker(project)
        programs = _programs(project, objects, chosen, log_format)
        console = Console(
            log_format=log_format, colour=has_colour(), width=max((len(one.slot) for one in programs), default=8)
        )
        console.say(_broker_words(broker, project))
        if isinstance(broker, PrivateNode | Container):
            command = tuple(broker.command)
            programs.insert(
                0, Program("broker.1", command, b"", broker.environment, BROKER_POLICY, after_prepare=False)
            )
        code = Supervisor(programs, lambda: _declare(project, broker, console), console).run()
        console.close()
    sys.exit(code)


def _find_broker(project: Project) -> Answering | PrivateNode | Container | BrokerAway:
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
        )
        for service, instances in chosen.items()
        for number in range(1, instances + 1)
    ]


def _declare(project: Project, broker: Answering | PrivateNode | Container | BrokerAway, console: Console) -> None:
    """Do the safe part of the plan. Raises BrokerError when the broker is away, DeclarationRefused for the rest."""
    # Here and not above: pika takes its time to import, and is not needed before the broker answers.
    from runner.cli.plan import change_line, known_management
    from runner.reconcile import bring, examine
    from runner.topology.apply import Consent, in_place
    from runner.topology.change import Mark

    is_ours = isinstance(broker, PrivateNode | Container)
    url = broker.management_url if isinstance(broker, PrivateNode | Container) else known_management(project)
    # A broker of ours begins to listen there a moment after it answers AMQP.
    examination = examine(project, url, patience=5.0 if is_ours else 0.0)
    for line in (*examination.plan.uncompared, *examination.plan.warnings):
        console.say(line, "warning")
    for change in in_place(examination.plan, Consent(), examination.objects):
        console.say(f"topology: {change_line(change)}")
    left = bring(examination, Consent(), lambda line: console.say(f"topology: {line}"))
    for change, needs in left:
        if change.mark is Mark.RETIRE:
            console.say(f"topology: {change_line(change)}; {needs}")
    lines = [
        f"{examination.place_of(change.thing)}: {change.kind} {change.name!r}: {change.why}; {needs}"
        for change, needs in left
        if change.mark is Mark.REPLACE
    ]
    if lines and is_ours:
        lines.append("this broker is the project's own: 'make reset' starts it afresh, without any of its messages")
    if lines:
        raise DeclarationRefused("\n".join(lines))


def _broker_words(broker: Answering | PrivateNode | Container | BrokerAway, project: Project) -> str:
    if isinstance(broker, BrokerAway):
        return str(broker)
    if isinstance(broker, Answering):
        return f"using the RabbitMQ that answers on {Address.of(broker.url)}"
    how = "a private RabbitMQ" if isinstance(broker, PrivateNode) else "RabbitMQ in a container"
    return f"no broker answers: starting {how} on {Address.of(broker.url)}, its data in {project.var / 'broker'}"
