"""The search for orphans, which are processes that outlive their parent.

Orphans are killed and reaped, even in other sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Mapping

from runner.supervisor.processes.guard import Guard
from runner.supervisor.processes.guardian import FoundProcess, process, processes, variable
from runner.supervisor.processes.process import INSTANCE

#: Seconds from the exit of a child to the search for its orphans, so that the exit is handled first.
SWEEP_DELAY = 0.1
#: Seconds between regular searches. When an instance exits, older orphans must already be known.
INTERVAL = 1.0
#: Seconds for all orphans to exit when the supervisor stops.
LAST_SWEEP = 2.0

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Orphans:
    """The orphaned descendants of instances, which have become children of this process.

    ``live`` returns the names of the running instances by pid. The instances themselves are reaped elsewhere.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, guard: Guard, live: Callable[[], Mapping[int, str]]) -> None:
        self._loop, self._guard, self._live = loop, guard, live
        self._session = os.getsid(0)
        #: The orphans with an empty or unreadable environment, by pid. Each value contains the instances that were
        #: running when the orphan was found. The orphan descends from one of these instances.
        self._strangers: dict[int, set[str]] = {}
        #: The children that this process already had at the start, for example because a shell replaced itself with
        #: this process.
        self._before = set(_children())
        #: The process groups of orphans that may keep running, because their instance is still running.
        self._kept: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        loop.add_signal_handler(signal.SIGCHLD, self._on_child)
        self._look()

    def sweep(self, *, has_ended: bool = False) -> None:
        """Reap exited orphans, and kill orphans that do not belong to a running instance.

        ``has_ended`` is True if an instance has just exited. In that case, a new orphan of unknown origin belongs to
        this instance.
        """
        live = self._live()
        adopted = self._adopted(live)
        present = {one.pid for one in adopted}
        self._strangers = {pid: owners for pid, owners in self._strangers.items() if pid in present}
        kept: set[int] = set()
        for one in adopted:
            if one.state in "ZX":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(one.pid, os.WNOHANG)
            elif self._is_left(one, set(live.values()), has_ended=has_ended):
                _kill(one, live)
            elif one.group not in live:
                kept.add(one.group)
        for group in self._kept - kept:
            self._guard.remove(group)
        for group in kept - self._kept:
            self._guard.add(group)
        self._kept = kept

    async def end(self) -> bool:
        """Kill all orphans after all instances have exited. Return False if any orphan is left after 2 s."""
        self._regular.cancel()
        deadline = time.monotonic() + LAST_SWEEP
        while self._adopted(self._live()):
            self.sweep(has_ended=True)
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def _look(self) -> None:
        self._regular = self._loop.call_later(INTERVAL, self._look)
        self.sweep()

    def _on_child(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP_DELAY, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.sweep()

    def _adopted(self, live: Mapping[int, str]) -> list[FoundProcess]:
        others = [found for pid in _children() if pid not in live and (found := process(pid)) is not None]
        self._before &= {one.pid for one in others}
        others = [one for one in others if one.pid not in self._before or one.state in "ZX"]
        # The supervisor's own helper processes, such as the plugin check, share its session and are reaped elsewhere.
        ours = [one for one in others if one.session != self._session and one.pid != self._guard.pid]
        if os.getpid() == 1:
            # As the first process of a container, this process also adopts unrelated orphans. Unrelated orphans are
            # only reaped.
            return [one for one in ours if one.state in "ZX" or variable(one.pid, INSTANCE) is not None]
        return ours

    def _is_left(self, one: FoundProcess, instances: set[str], *, has_ended: bool) -> bool:
        if (instance := variable(one.pid, INSTANCE)) is not None:
            return instance not in instances
        if one.pid not in self._strangers:
            self._strangers[one.pid] = set() if has_ended else set(instances)
        return not self._strangers[one.pid] & instances


def _children() -> list[int]:
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [one.pid for one in processes() if one.parent == me]


def _kill(one: FoundProcess, live: Mapping[int, str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if one.group not in live and one.group != os.getpgrp():
            os.killpg(one.group, signal.SIGKILL)
        os.kill(one.pid, signal.SIGKILL)
