"""The dead-letter desk of a project, as its commands open it: which queues, on which broker, and what to beware of."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

from runner.amqp.desk import Browser, holds_any, look
from runner.amqp.drain import Counts
from runner.amqp.management import Management, ManagementError
from runner.cli.broker import broker_for
from runner.config.argument import QUORUM
from runner.config.fault import one_of
from runner.config.project import Project, load_project
from runner.desk.letter import Letter
from runner.desk.places import Places
from runner.errors import RunnerError
from runner.topology.change import counted
from runner.topology.compile import compile_topology
from runner.topology.effect import Policies
from runner.topology.model import Objects

#: From so many messages on it takes long enough to show how far it is.
LONG = 5000
#: Seconds for a busy queue to say what it holds.
DOUBT = 8.0


@dataclass(frozen=True)
class Opened:
    """Dead-letter queues that are there, on the broker that answers."""

    project: Project
    url: str
    places: Places
    #: What each held when the command began; those that hold something, and only those.
    counts: dict[str, int]
    #: The only origin that is meant, None for all.
    origin: str | None

    @property
    def total(self) -> int:
        """How many messages there were when the command began."""
        return sum(self.counts.values())

    def read(self, on_letter: Callable[[Letter, str | None], None], label: str = "reading") -> None:
        """Show every message, with the queue in which it failed; nothing is consumed."""
        with progress(label, self.total) as show:
            done = 0

            def each(letter: Letter) -> None:
                nonlocal done
                done += 1
                if done % 1000 == 0:
                    show(done)
                origin = self.places.origin_of(letter)
                if self.origin is None or origin == self.origin:
                    on_letter(letter, origin)

            for queue in self.counts:
                Browser(self.url, queue, each).run()


@contextlib.contextmanager
def opened(folder: Path, queue: str | None) -> Iterator[Opened]:
    """Open the desk, or what ``queue`` names of it: a dead-letter queue, or one whose messages are parked there.

    Raises click.BadParameter for an unknown queue, ConfigError, and BrokerAway where no broker answers.
    """
    project = load_project(folder)
    objects = compile_topology(project.topology, project.consumed)
    places = Places.of(objects)
    try:
        queues, origin = places.choose(queue)
    except KeyError:
        text = f"no dead-letter queue of this project, and none leads from it, {queue!r}"
        raise click.BadParameter(f"{text}; {one_of(queue or '', places.names)}", param_hint="--queue") from None
    with broker_for(project) as management_url:
        url, found = look(project.config.broker.url, queues)
        for name, counts in found.items():
            if counts is None:
                warn(f"queue {name}: not on the broker yet; apply, or a start, makes it")
            elif counts.consumers:
                warn(
                    f"queue {name}: {counted(counts.consumers, 'consumer')} besides; what is in somebody's hands is"
                    " not seen here"
                )
        management = Management(url, project.config.broker.management or management_url)
        quorum = {one.name for one in objects.queues if one.type == QUORUM}
        for name in [one for one in quorum & found.keys() if found[one] == Counts(0, 0)]:
            found[name] = _sure(name, url, management)
        held = {name: counts.messages for name, counts in found.items() if counts is not None and counts.messages}
        for name in held:
            if (limit := _limit(name, objects, management)) is not None:
                warn(
                    f"queue {name}: a quorum queue with a delivery limit of {limit}: each look counts as a delivery in"
                    " vain, and after so many the broker drops the message or moves it on"
                )
        yield Opened(project, url, places, held, origin)


def _sure(name: str, url: str, management: Management) -> Counts:
    """What a quorum queue holds that calls itself empty, as it also does when it is too busy to answer."""
    deadline = time.monotonic() + DOUBT
    try:
        # RabbitMQ's statistics are late too: neither is believed alone.
        if not management.ready_of(name) or not holds_any(url, name):
            return Counts(0, 0)
        while time.monotonic() < deadline:
            counts = look([url], [name])[1][name]
            if counts is None or counts.messages:
                return counts or Counts(0, 0)
            time.sleep(0.5)
    except RunnerError as error:
        if isinstance(error, ManagementError):
            return Counts(0, 0)
    warn(f"queue {name}: it calls itself empty and is not, because it is too busy to answer; look again")
    return Counts(0, 0)


def _limit(name: str, objects: Objects, management: Management) -> int | None:
    try:
        return management.delivery_limit_of(name)
    except ManagementError:
        pass  # what topology.yaml says is the best that is known then
    for queue in objects.queues:
        if queue.name == name and queue.type == QUORUM:
            policy = Policies(objects.policies).settings_of(queue)
            limit = queue.arguments.get("x-delivery-limit", policy.get("delivery-limit"))
            return limit if isinstance(limit, int) and limit >= 0 else None
    return None


def warn(text: str) -> None:
    """A line on standard error; yellow on a terminal."""
    click.secho(text, err=True, fg="yellow" if sys.stderr.isatty() else None)


@contextlib.contextmanager
def progress(label: str, total: int, *, is_long: bool = False) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, where that is a terminal and the work is long: call with how many are done."""
    if not sys.stderr.isatty() or (total < LONG and not is_long):
        yield lambda _: None
        return
    steps = max(1, total // 200)
    with click.progressbar(length=total, label=label, file=sys.stderr, show_pos=True, update_min_steps=steps) as bar:
        yield lambda done: bar.update(max(0, min(done, total) - bar.pos))


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Take the first Ctrl-C for a wish to finish what is at hand, which the result tells; a second one ends at once."""
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield lambda: stopped
    finally:
        signal.signal(signal.SIGINT, before)


class NewFile:
    """A file for copies of messages: made with the first line, readable by its user alone, never in another's place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: IO[Any] | None = None

    def write(self, line: str) -> None:
        """Write a line. Raises RunnerError where the file is there already or cannot be written."""
        try:
            if self._stream is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                self._stream = os.fdopen(descriptor, "w", encoding="utf-8")
            self._stream.write(line + "\n")
        except FileExistsError:
            raise RunnerError(f"{self.path}: is there already; allowed: a new file") from None
        except OSError as error:
            raise RunnerError(f"{self.path}: cannot be written, {error.strerror}") from None

    def sync(self) -> None:
        """Close it once it is on the disk, its name too. Raises RunnerError."""
        if self._stream is None:
            return
        try:
            with self._stream as stream:
                stream.flush()
                os.fsync(stream.fileno())
            descriptor = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise RunnerError(f"{self.path}: cannot be written, {error.strerror}") from None

    def remove(self) -> None:
        """Nobody needs it."""
        if self._stream is not None:
            self._stream.close()
            self.path.unlink(missing_ok=True)
