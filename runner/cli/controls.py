"""What a running supervisor has beside its services: the control socket, and looks at processes and queues."""

from __future__ import annotations

import threading
from pathlib import Path

from runner.cli.declaration import Declaration
from runner.cli.reload import Outcome, Reload
from runner.supervisor.command import Commands
from runner.supervisor.control import Control
from runner.supervisor.loop import Supervisor
from runner.supervisor.upkeep import Upkeep
from runner.supervisor.usage import Sampler


def attach_controls(supervisor: Supervisor, var: Path, reload: Reload, declaration: Declaration) -> None:
    """Have them begin and end with the supervisor."""

    def depth(service: str) -> int:
        return declaration.ready_messages(service)

    sampler = Sampler()
    supervisor.attach(Upkeep(supervisor, sampler, depth).begin)
    commands = Commands(supervisor, sampler, lambda: reload.take() in (Outcome.DONE, Outcome.LEFT))
    supervisor.attach(Control(var, commands, supervisor.journal).begin)
    supervisor.on_hangup = lambda: threading.Thread(target=reload.take, name="reload", daemon=True).start()
