"""One child process: spawned as the leader of its own session, watched, and ended with its whole group."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess

from runner.lifeline import VARIABLE
from runner.supervisor.program import Program


class Process:
    """A running child; its lifeline, output and exit are descriptors for an event loop to watch."""

    def __init__(self, program: Program) -> None:
        """Spawn it. Raises OSError where that fails."""
        self.program = program
        ours, theirs = socket.socketpair()
        # A file in memory: writing it never waits for the child to read, and no password reaches a disk.
        with theirs, os.fdopen(os.memfd_create(program.slot), "w+b") as stdin:
            stdin.write(program.stdin)
            stdin.seek(0)
            environment = {
                **os.environ,
                **program.environment,
                VARIABLE: str(theirs.fileno()),
                "PYTHONUNBUFFERED": "1",
            }
            try:
                self._popen = subprocess.Popen(
                    program.command,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        self.pid = self._popen.pid
        #: Descriptors that whoever reads them takes over.
        self.lifeline = ours.detach()
        assert self._popen.stdout is not None  # noqa: S101 - for the type checker: PIPE was asked for
        self.output = os.dup(self._popen.stdout.fileno())
        self._popen.stdout.close()
        #: Readable once the process has ended (pidfd_open(2)).
        self.exit_descriptor = os.pidfd_open(self.pid)

    def terminate(self) -> None:
        """Ask the leader to stop; SIGCONT, because a stopped process would never see the request."""
        self._signal_leader(signal.SIGTERM)
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
        return code

    def _signal_leader(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.exit_descriptor, number)
