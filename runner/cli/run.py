"""``run``: put the system together and supervise it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import click

from runner.cli.terminal import has_colour, take_foreground
from runner.preparation.remote import Begun, Found, Order, Preparation


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
    # Its process reads the files while this one imports the rest.
    preparation = Preparation(Order(str(folder), services, log_format))
    try:
        from runner.supervisor.lock import take_lock

        begun = preparation.begin()
        with take_lock(folder / "var"):
            code = _supervise(folder, preparation, begun, preparation.find(), watch=watch, log_format=log_format)
    finally:
        preparation.close()
    sys.exit(code)


def _supervise(
    folder: Path, preparation: Preparation, begun: Begun, found: Found, *, watch: bool, log_format: str
) -> int:
    from runner.cli.reload import Outcome, Reload
    from runner.cli.watch import Watch
    from runner.supervisor.control.command import Commands
    from runner.supervisor.control.server import Control
    from runner.supervisor.control.upkeep import Upkeep
    from runner.supervisor.control.usage import Sampler
    from runner.supervisor.loop import Supervisor
    from runner.supervisor.output.console import Console
    from runner.supervisor.output.journal import Journal
    from runner.supervisor.output.logfile import LogFiles
    from runner.supervisor.output.writer import Writer
    from runner.supervisor.transition import Listener, history
    from runner.worker.fault import FaultFolder

    var, programs = folder / "var", [*found.programs, *begun.programs]
    width = max(len(f"{one.service}.{one.instances}") for one in programs)
    writers: list[Writer] = [Console(log_format=log_format, colour=has_colour(), width=max(width, 8))]
    listeners: list[Listener] = []
    if begun.logs is not None:
        writers.append(files := LogFiles(var / "log", *begun.logs, log_format))
        listeners.append(history(files))
    journal = Journal(*writers)
    journal.say(found.words)
    if found.warning:
        journal.say(found.warning, "warning")
    preparation.say = journal.say
    supervisor = Supervisor(programs, preparation.prepare, journal, listeners, exits_on_fatal=begun.exits_on_fatal)
    reload, sampler = Reload(preparation, supervisor.update, journal), Sampler()
    commands = Commands(supervisor, sampler, lambda: reload.take() in (Outcome.DONE, Outcome.LEFT))
    supervisor.attach(Upkeep(supervisor, sampler, preparation.ready_messages).begin)
    supervisor.attach(Control(var, commands, journal).begin)
    supervisor.on_hangup = lambda: threading.Thread(target=reload.take, name="reload", daemon=True).start()
    if watch:
        Watch(folder, reload).start()
    try:
        code = supervisor.run()
    finally:
        FaultFolder(var).begin(None)  # nobody is to take a later process for this runner
    journal.close()
    return code
