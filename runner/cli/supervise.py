"""The supervision of all services, from the start of ``run`` until every service has stopped."""

from __future__ import annotations

import sys
import threading
from functools import partial
from pathlib import Path
from typing import IO

from runner.cli.reload import Reload, Watch
from runner.cli.terminal import has_colour, unguarded
from runner.faults.active import FaultFolder
from runner.preparation.preparation_client import Preparation, PreparedSystem, SupervisionPlan
from runner.supervisor.control.commands import Commands
from runner.supervisor.control.socket_server import Control, Presence
from runner.supervisor.control.upkeep import Upkeep
from runner.supervisor.lock import take_lock
from runner.supervisor.loop import Supervisor
from runner.supervisor.output.console import Console
from runner.supervisor.output.journal import Journal
from runner.supervisor.output.line_writer import LineWriter
from runner.supervisor.output.logfile import LogFiles
from runner.supervisor.processes.usage import Sampler
from runner.supervisor.transition_report import Listener, history


def supervise(folder: Path, preparation: Preparation, *, watch: bool, log_format: str, log_level: str) -> int:
    """Run the configured services until they stop. Return the exit code. Raises RunnerError if no service can run."""
    settings = preparation.begin()
    with take_lock(folder / "var") as lock:
        found = preparation.find()
        return _supervise(
            folder, preparation, settings, found, lock, watch=watch, log_format=log_format, log_level=log_level
        )


def _supervise(
    folder: Path,
    preparation: Preparation,
    settings: SupervisionPlan,
    found: PreparedSystem,
    lock: IO[str],
    *,
    watch: bool,
    log_format: str,
    log_level: str,
) -> int:
    var, programs = folder / "var", [*found.programs, *settings.programs]
    width = max(len(f"{one.service}.{one.instances}") for one in programs)
    is_terminal = sys.stdout.isatty()
    writers: list[LineWriter] = [
        Console(
            unguarded(sys.stdout),
            log_format=log_format,
            colour=has_colour(),
            width=max(width, 8),
            has_short_ids=is_terminal,
        )
    ]
    listeners: list[Listener] = []
    if settings.logs is not None:
        writers.append(files := LogFiles(var / "log", *settings.logs, log_format))
        listeners.append(history(files))
    journal = Journal(*writers, level=log_level)
    for one in writers:
        if isinstance(one, LogFiles):
            one.complain = partial(journal.say, level="warning")
    journal.say(found.words)
    for warning in found.warnings:
        journal.say(warning, "warning")
    preparation.say = journal.say

    def prepare() -> None:
        reload.prepare()

    supervisor = Supervisor(programs, prepare, journal, listeners, exits_on_fatal=settings.exits_on_fatal)
    reload, sampler = Reload(preparation, supervisor.update, journal, supervisor.timeline), Sampler()
    commands = Commands(supervisor, sampler, reload.run)
    supervisor.attach(Upkeep(supervisor, sampler, preparation.ready_messages).begin)
    control = Control(var, commands, journal)
    supervisor.attach(control.begin)
    supervisor.attach(Presence(var, lock, control, journal).begin)
    supervisor.on_hangup = lambda: threading.Thread(target=reload.run, name="reload", daemon=True).start()
    if watch:
        Watch(folder, reload).start()
    try:
        code = supervisor.run()
    finally:
        FaultFolder(var).begin(None)  # a later process may get the same pid
    journal.close()
    return code
