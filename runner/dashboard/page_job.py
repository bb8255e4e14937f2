"""The jobs of the page: command lines of this program and other long work, with their output."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, cast

from runner.dashboard.page_text import cut_line
from runner.invocation import SOURCE, invocation

#: The number of finished jobs, and the number of output lines of each job, that are kept.
MAX_JOBS, MAX_LINES = 100, 400
#: The maximum number of jobs that run at the same time.
MAX_RUNNING = 8
#: Seconds that an interrupted job may take to exit.
STOP_SECONDS = 10.0
#: Seconds that a request waits for its job. A longer job continues, and the page asks for its output.
WAIT_SECONDS = 5.0


class TooManyJobs(Exception):
    """The error if ``MAX_RUNNING`` jobs are already running."""


class PageJob(ABC):
    """Work that a person has started in the page, with its output."""

    def __init__(self, id: str, arguments: Sequence[str], command: str) -> None:
        self.id, self.arguments, self.command = id, tuple(arguments), command
        self.began = time.time()
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._finished = threading.Event()

    @property
    @abstractmethod
    def exit_code(self) -> int | None:
        """The exit code of the finished work."""

    @abstractmethod
    def interrupt(self) -> None:
        """Interrupt the work as Ctrl-C does in a terminal."""

    @abstractmethod
    def kill(self) -> None:
        """End the work at once."""

    @property
    def is_running(self) -> bool:
        """True if the work has not ended yet."""
        return not self._finished.is_set()

    def wait(self, seconds: float) -> None:
        """Wait at most ``seconds`` until the work has ended."""
        self._finished.wait(seconds)

    def as_json(self) -> dict[str, Any]:
        """Return the state of the job for the page."""
        code = None if self.is_running else self.exit_code
        state = "running" if code is None else "done" if code == 0 else "failed"
        return {
            "id": self.id,
            "command": self.command,
            "state": state,
            "exit_code": code,
            "lines": list(self._lines),
            "began": self.began,
        }


class ProgramJob(PageJob):
    """One command line of this program, which runs as a child process."""

    def __init__(self, id: str, folder: Path, arguments: Sequence[str], command: str) -> None:
        super().__init__(id, arguments, command)
        # The page must show the same text as a terminal, so commands in the output begin as in the user's shell.
        paths = [str(SOURCE), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "runner", "--project", str(folder), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, env=environment,
            text=True, encoding="utf-8", errors="replace", start_new_session=True,
        )  # fmt: skip
        output = cast(IO[str], self._process.stdout)
        threading.Thread(target=self._read, args=(output,), name=f"job-{id}", daemon=True).start()

    def _read(self, output: IO[str]) -> None:
        with output as stream:
            for line in stream:
                # A progress line ends with a carriage return, and only its last state is shown.
                self._lines.append(cut_line(line.rstrip("\n").rpartition("\r")[2]))
        self._process.wait()
        self._finished.set()

    @property
    def exit_code(self) -> int | None:
        """The exit code of the command."""
        return self._process.returncode

    def interrupt(self) -> None:
        """Interrupt the command as Ctrl-C does in a terminal."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the command."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class PageJobs:
    """The jobs of this process. Any thread may call the methods."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._jobs: OrderedDict[str, PageJob] = OrderedDict()

    def start(self, arguments: Sequence[str], shown: str | None = None) -> PageJob:
        """Run a command line of this program. ``shown`` is the text of the command line, if it differs.

        Raises TooManyJobs.
        """
        command = shown or invocation(*arguments)
        return self.add(lambda id: ProgramJob(id, self._folder, arguments, command))

    def add(self, make: Callable[[str], PageJob]) -> PageJob:
        """Start a job, which ``make`` creates from its id. Raises TooManyJobs."""
        with self._lock:
            if sum(job.is_running for job in self._jobs.values()) >= MAX_RUNNING:
                raise TooManyJobs
            id = str(next(self._numbers))
            job = self._jobs[id] = make(id)
            for old in [one for one in self._jobs.values() if not one.is_running][: max(0, len(self._jobs) - MAX_JOBS)]:
                del self._jobs[old.id]
        return job

    def get(self, id: str) -> PageJob | None:
        """Return the job with this id, or None if there is none."""
        with self._lock:
            return self._jobs.get(id)

    def running(self) -> list[PageJob]:
        """Return the jobs that are running, oldest first."""
        with self._lock:
            return [job for job in self._jobs.values() if job.is_running]

    @property
    def finished(self) -> int:
        """The number of jobs that have ended."""
        with self._lock:
            running = sum(job.is_running for job in self._jobs.values())
            return int(next(reversed(self._jobs), "0")) - running

    def close(self) -> None:
        """Interrupt all running jobs, and kill the jobs that do not exit in time."""
        running = self.running()
        for job in running:
            job.interrupt()
        deadline = time.monotonic() + STOP_SECONDS
        for job in running:
            job.wait(max(0.0, deadline - time.monotonic()))
            job.kill()
