"""One child process: spawned as the leader of its own session, watched, and ended with its whole group."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import resource
import signal
import socket
import subprocess
from collections.abc import Sequence
from typing import Any

from runner.ipc import crashing_messages as suspects
from runner.ipc import lifeline
from runner.ipc import shared_memory as record
from runner.supervisor.program import SLOT, Limits, Program

#: Names, in the environment of a process and of all that descend from it, the instance it belongs to.
INSTANCE = "FASTCOMMERCE_INSTANCE"
#: Names the descriptors that a child inherits.
_DESCRIPTORS = (lifeline.VARIABLE, record.VARIABLE, suspects.VARIABLE)
#: What systemd tells a service of itself (sd_notify(3)).
_ABOUT_US = ("NOTIFY_SOCKET", "WATCHDOG_PID", lifeline.WATCHDOG_VARIABLE)


class Process:
    """A running child; its lifeline, output and exit are descriptors for an event loop to watch."""

    def __init__(self, program: Program, slot: str, instance: str = "", accused: int | None = None) -> None:
        """Spawn it; ``accused`` is a descriptor of the messages that are suspect.

        Raises OSError, ValueError or SubprocessError where that fails.
        """
        rights = _rights(program.limits)
        with contextlib.ExitStack() as undo:
            self.lifeline, theirs = socket.socketpair()
            undo.callback(self.lifeline.close)
            self.record = record.SharedMemoryFile(slot)
            # A file in memory: writing it never waits for the child to read, and no password reaches a disk.
            with theirs, contextlib.closing(self.record), os.fdopen(os.memfd_create(slot), "w+b") as stdin:
                stdin.write(program.stdin)
                stdin.seek(0)
                descriptors = [theirs.fileno(), self.record.descriptor, *([] if accused is None else [accused])]
                self._popen = subprocess.Popen(
                    [part.replace(SLOT, slot) for part in program.command],
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env=_environment(program, instance, descriptors),
                    pass_fds=descriptors,
                    start_new_session=True,
                    **rights,
                )
            self.pid = self._popen.pid
            undo.callback(self._popen.wait)
            undo.callback(self.kill)
            assert self._popen.stdout is not None  # noqa: S101 - for the type checker: PIPE was asked for
            undo.callback(self._popen.stdout.close)
            #: Readable once the process has ended (pidfd_open(2)).
            self.exit_descriptor = os.pidfd_open(self.pid)
            undo.callback(os.close, self.exit_descriptor)
            _limit(self.pid, program.limits)
            #: Whoever reads it takes it over.
            self.output = os.dup(self._popen.stdout.fileno())
            undo.pop_all()
            self._popen.stdout.close()

    def terminate(self) -> None:
        """Ask the leader to stop; SIGCONT, because a stopped process would never see the request."""
        self._signal_leader(signal.SIGTERM)
        self._signal_leader(signal.SIGCONT)

    def abort(self) -> None:
        """End the leader in a way that lets it write down where its threads are."""
        self._signal_leader(signal.SIGABRT)
        self._signal_leader(signal.SIGCONT)

    def kill(self) -> None:
        """End the whole group at once. Only before ``reap``, which gives the pid away."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Collect the exit code of a process that has ended, after the rest of its group is killed.

        In this order, because the unreaped leader keeps the group's number from being given to others.
        """
        self.kill()
        code = self._popen.wait()
        os.close(self.exit_descriptor)
        self.lifeline.close()
        return code

    def _signal_leader(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.exit_descriptor, number)


def _rights(limits: Limits) -> dict[str, Any]:
    if limits.user is None:
        return {}
    user = _entry(limits.user)
    groups = os.getgrouplist(limits.user, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}


def _environment(program: Program, instance: str, descriptors: Sequence[int]) -> dict[str, str]:
    """The supervisor's own variables and the program's, without those that are about the supervisor itself."""
    limits, watchdog = program.limits, program.policy.watchdog
    own = {name: value for name, value in os.environ.items() if name not in _ABOUT_US}
    home = {}
    if limits.user is not None:
        home = {"HOME": _entry(limits.user).pw_dir, "USER": limits.user, "LOGNAME": limits.user}
    return {
        **own,
        "PYTHONUNBUFFERED": "1",
        **home,
        **program.environment,
        **dict(zip(_DESCRIPTORS, map(str, descriptors), strict=False)),
        INSTANCE: instance,
        **({lifeline.WATCHDOG_VARIABLE: str(int(watchdog * 1_000_000))} if watchdog else {}),
    }


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise OSError(errno.ENOENT, f"no user {user!r}") from None


def _limit(pid: int, limits: Limits) -> None:
    # From here and not by preexec_fn, which makes spawning slower and is not safe beside threads (subprocess's docs).
    if limits.nice:
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + limits.nice)
    if limits.open_files is not None:
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            hard = limits.open_files if hard != resource.RLIM_INFINITY and hard < limits.open_files else hard
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limits.open_files, hard))
