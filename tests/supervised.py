"""The supervisor with children that are given as Python source. It needs no broker."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.errors import RunnerError
from runner.supervisor.control.client import ask
from tests.running import Runner

HOST = """
import json, sys
from pathlib import Path
from runner.backoff import Backoff
from runner.supervisor import slot_keeper, slot_lifecycle
from runner.supervisor.control import upkeep
from runner.supervisor.control.commands import Commands
from runner.supervisor.output.console import Console
from runner.supervisor.control.socket_server import Control
from runner.supervisor.output.journal import Journal
from runner.supervisor.lock import take_lock
from runner.supervisor.loop import Supervisor
from runner.supervisor.program import Limits, Program
from runner.supervisor.program import Restart, RestartLimit, RestartPolicy
from runner.supervisor.processes.usage import Sampler

PRELUDE = '''
import faulthandler, os, signal, socket, subprocess, sys, time
faulthandler.enable()
line = socket.socket(fileno=int(os.environ["FASTCOMMERCE_LIFELINE"]))
def say(*words): line.sendall("".join(word + chr(10) for word in words).encode())
def ready(): say("READY=1", "STATUS=at work")
'''
spec = json.load(sys.stdin)
given = spec["policy"]
if "restart" in given:
    given["restart"] = Restart(given["restart"])
limit = RestartLimit(given.pop("count", 5), 20)
kept = RestartPolicy(**{
    "start_timeout": 20, "stop_timeout": 1, "backoff": Backoff(0.1, max=30.0), "restart_limit": limit, **given
})
def program(number, source, command=(), limits=(), depends_on=(), **more):
    return Program(
        more.pop("service", f"child{number}"), tuple(command) or (sys.executable, "-c", PRELUDE + source), policy=kept,
        limits=Limits(**dict(limits)), depends_on=tuple(depends_on), **more,
    )
programs = [program(number, **one) for number, one in enumerate(spec["programs"], 1)]
slot_lifecycle.LONGEST_OUTSIDE = 0.01
slot_keeper.HOLD = 1.5
upkeep.PROCESS_INTERVAL, upkeep.PAUSE = 0.1, 0.0
journal = Journal(Console())
supervisor = Supervisor(programs, lambda: None, journal, exits_on_fatal=spec["exits"])
sampler = Sampler()
var = Path("var")
lock = take_lock(var)
supervisor.attach(upkeep.Upkeep(supervisor, sampler, lambda _: 0).begin)
def reload():
    programs = json.loads(Path("reload.json").read_text())
    supervisor.update([program(number, **one) for number, one in enumerate(programs, 1)])
    return 0
supervisor.attach(Control(var, Commands(supervisor, sampler, reload), journal).begin)
code = supervisor.run()
journal.close()
sys.exit(code)
"""

#: A child that becomes ready and then only sleeps.
SLEEPS = "ready()\ntime.sleep(600)"


class Supervise:
    """The supervisors of a test, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: list[Runner] = []

    def __call__(
        self, *programs: str | dict[str, Any], exits: bool = False, prefix: tuple[str, ...] = (), **policy: Any
    ) -> Runner:
        """Start a supervisor.

        A child is its source, or a dict with more settings; ``policy`` applies to all children.
        """
        described = [{"source": one} if isinstance(one, str) else one for one in programs]
        for one in described:
            one["source"] = textwrap.dedent(one["source"])
        spec = json.dumps({"policy": policy, "programs": described, "exits": exits})
        runner = Runner([*prefix, sys.executable, "-c", HOST], self.folder, stdin=spec)
        self._made.append(runner)
        return runner

    def tell(self, command: str, **request: Any) -> dict[str, Any]:
        """Send a command to the supervisor in this folder. Return its last answer, which may be an error."""
        if "programs" in request:
            programs = [{"source": one} if isinstance(one, str) else one for one in request.pop("programs")]
            for one in programs:
                one["source"] = textwrap.dedent(one["source"])
            (self.folder / "reload.json").write_text(json.dumps(programs))
        answer: dict[str, Any] = {}
        try:
            for answer in ask(self.folder, command, **request):  # noqa: B007 - the last one says how it went
                pass
        except RunnerError as error:
            return {"error": str(error)}
        return answer

    def slots(self) -> dict[str, dict[str, Any]]:
        """Return the status of each holder by slot."""
        return {one["slot"]: one for one in self.tell("status")["slots"] if one["role"] == "holder"}

    def close(self) -> None:
        """Kill the remaining supervisors."""
        for runner in self._made:
            if runner.process.poll() is None:
                runner.process.kill()
                runner.process.wait(20)


def is_gone(pid: int) -> bool:
    """Return True if a process has exited. A zombie has exited."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def descendants(pid: int) -> dict[int, str]:
    """Return the state of each descendant of a process by pid, including zombies."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, *_ = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(parent), []).append((int(path.name), state))

    def below(one: int) -> Iterator[tuple[int, str]]:
        for child, state in parents.get(one, []):
            yield child, state
            yield from below(child)

    return dict(below(pid))
