"""A child process that leads its own session, and is killed together with its process group."""

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

from runner.ipc import crashing_messages, lifeline, shared_memory
from runner.supervisor.program import SLOT, Limits, Program

#: The environment variable with the instance name of a process and its descendants.
INSTANCE = "FASTCOMMERCE_INSTANCE"
#: The environment variables with the numbers of the inherited file descriptors.
_DESCRIPTORS = (lifeline.VARIABLE, shared_memory.VARIABLE, crashing_messages.VARIABLE)
#: The environment variables that systemd sets only for the supervisor itself (sd_notify(3)).
_ABOUT_US = ("NOTIFY_SOCKET", "WATCHDOG_PID", lifeline.WATCHDOG_VARIABLE)


class Process:
    """A running child process.

    An event loop watches the process's file descriptors for notifications, output and exit.
    """

    def __init__(self, program: Program, slot: str, instance: str = "", crash_list: int | None = None) -> None:
        """Start the process, which inherits ``crash_list``, the file descriptor of the list of crashing messages.

        Raises OSError, ValueError or SubprocessError if the start fails.
        """
        rights = _rights(program.limits)
        with contextlib.ExitStack() as undo:
            self.lifeline, theirs = socket.socketpair()
            undo.callback(self.lifeline.close)
            self.record = shared_memory.SharedMemoryFile(slot)
            # Unlike a pipe, a file in memory never blocks the writer. Passwords in the file are never written to disk.
            with theirs, contextlib.closing(self.record), os.fdopen(os.memfd_create(slot), "w+b") as stdin:
                stdin.write(program.stdin)
                stdin.seek(0)
                descriptors = [theirs.fileno(), self.record.descriptor, *([] if crash_list is None else [crash_list])]
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
            #: The file descriptor that becomes readable when the process exits (pidfd_open(2)).
            self.exit_descriptor = os.pidfd_open(self.pid)
            undo.callback(os.close, self.exit_descriptor)
            _limit(self.pid, program.limits)
            #: The file descriptor for the output of the process. The reader must close the descriptor.
            self.output = os.dup(self._popen.stdout.fileno())
            undo.pop_all()
            self._popen.stdout.close()

    def terminate(self) -> None:
        """Send SIGTERM to the group leader, followed by SIGCONT, because a stopped process would not handle SIGTERM."""
        self._signal_leader(signal.SIGTERM)
        self._signal_leader(signal.SIGCONT)

    def abort(self) -> None:
        """Send SIGABRT to the group leader, which prints the stacks of its threads and exits."""
        self._signal_leader(signal.SIGABRT)
        self._signal_leader(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the whole process group.

        Call this method only before ``reap``, because another process may get the pid afterwards.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Kill the remaining process group of an exited process, and return the exit code.

        The group is killed before the leader is reaped, because another group could get the same id afterwards.
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
    """Return the supervisor's environment, without systemd's variables, together with the program's environment."""
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
        raise OSError(errno.ENOENT, f"no user {user!r} on this machine") from None


def _limit(pid: int, limits: Limits) -> None:
    # The parent process sets the limits, because ``preexec_fn`` is slower and not safe with threads (Python:
    # "subprocess").
    if limits.nice:
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + limits.nice)
    if limits.open_files is not None:
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            hard = limits.open_files if hard != resource.RLIM_INFINITY and hard < limits.open_files else hard
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limits.open_files, hard))
