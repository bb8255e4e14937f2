"""The server side of the control socket, which only its owner can open.

Commands find a supervisor by its socket and its lock file. A removed socket or lock file is recreated.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO

from runner.errors import RunnerError
from runner.invocation import invocation
from runner.supervisor.control import FILE, MAX_REQUEST, VERSION, socket_path
from runner.supervisor.control.commands import CommandFailed, Commands
from runner.supervisor.control.follow import Answer, Send, reworded
from runner.supervisor.lock import FILE as LOCK
from runner.supervisor.lock import is_in_place, take_lock
from runner.supervisor.output.journal import Journal

#: Seconds between checks of the socket and the lock file.
INTERVAL = 1.0
#: Seconds for a client to send its request, and seconds for a client to read a response.
REQUEST_TIME, READ_TIME = 5.0, 30.0
#: The keys of responses that a command sends again and again.
_STREAMED = {"line", "dropped", "snapshot"}


class Control:
    """The control socket in ``folder``, which this supervisor has locked."""

    def __init__(self, folder: Path, commands: Commands, journal: Journal) -> None:
        self._folder, self._commands, self._journal = folder, commands, journal
        self._is_over = False
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> Callable[[], None]:
        """Start listening, and return a function that stops listening.

        Raises RunnerError if the socket cannot be created.
        """
        try:
            self._listener = self._listen()
        except OSError as error:
            what = f"{self._folder / FILE}: cannot be created, {error.strerror}"
            raise RunnerError(f"{what}; allowed: a folder that this user can write to") from None
        return self._end

    def restore(self) -> bool:
        """Recreate a removed socket. Return True if the socket had been removed. Raises OSError."""
        with contextlib.suppress(FileNotFoundError), socket_path(self._folder) as path:
            os.lstat(path)
            return False
        listener = self._listen()
        self._close()
        self._listener = listener
        return True

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            with socket_path(self._folder) as path:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)  # a socket that a killed supervisor left behind
                listener.bind(path)
                os.chmod(path, 0o600)  # before the socket listens, so that other users can never connect
            listener.listen(16)
        except OSError:
            listener.close()
            raise
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        return listener

    def _close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()

    def _end(self) -> None:
        self._is_over = True
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(FileNotFoundError), socket_path(self._folder) as path:
            os.unlink(path)
        self._close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client has disconnected
        except OSError:
            # No file descriptor is free, so the client must wait. An immediate retry would only waste CPU time.
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(1.0, self._accept_again, listener)
            return
        task = asyncio.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept_again(self, listener: socket.socket) -> None:
        if not self._is_over and listener is self._listener:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_REQUEST)

        async def send(answer: Answer) -> None:
            writer.write(json.dumps(answer, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
            # A client that follows log lines or watches the system may pause. Only a limited number of lines and steps
            # wait, and dropped lines and steps are counted.
            async with asyncio.timeout(None if answer.keys() & _STREAMED else READ_TIME):
                await writer.drain()

        try:
            async with asyncio.timeout(REQUEST_TIME):
                raw = await reader.readline()
            await send(await self._answer(raw, reader, send))
        except (OSError, TimeoutError, ValueError):
            pass  # the client has disconnected, or has not sent a whole line
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    async def _answer(self, raw: bytes, reader: asyncio.StreamReader, send: Send) -> Answer:
        own = theirs = invocation()
        try:
            request = json.loads(raw)
            if not isinstance(request, dict) or request.get("version") != VERSION:
                version = request.get("version") if isinstance(request, dict) else None
                raise CommandFailed(
                    f"unknown protocol version, {version!r}; this supervisor uses version {VERSION}, so restart it"
                )
            theirs = str(request.get("invocation") or own)
            # If the client disconnects, the supervisor only stops waiting for the result. The change itself continues.
            command = asyncio.ensure_future(self._commands.run(request, lambda one: send(reworded(one, own, theirs))))
            gone = asyncio.ensure_future(reader.read())
            try:
                await asyncio.wait((command, gone), return_when=asyncio.FIRST_COMPLETED)
                if not command.done():
                    raise ConnectionResetError
                return {"ok": True, **reworded(command.result(), own, theirs)}
            finally:
                command.cancel()
                gone.cancel()
                await asyncio.gather(command, gone, return_exceptions=True)
        except CommandFailed as error:
            return reworded({"ok": False, "error": str(error), "exit_code": error.exit_code}, own, theirs)
        except OSError:
            raise  # the client has disconnected or does not read
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            return {"ok": False, "error": f"invalid request, {error}"}
        except Exception as error:  # noqa: BLE001 - a bug must be reported, but must not stop the supervisor
            for line in "".join(traceback.format_exception(error)).splitlines():
                self._journal.say(line, "error")
            name = type(error).__name__
            return {"ok": False, "error": f"internal error in the supervisor, {name}; check its output"}


class Presence:
    """The periodic check of the socket and the lock file in ``folder``. ``lock`` is the caller's open lock file."""

    def __init__(self, folder: Path, lock: IO[str], control: Control, journal: Journal) -> None:
        self._folder, self._lock, self._control, self._journal = folder, lock, control, journal
        #: The recreated lock files, which this object closes. The caller closes its own lock file.
        self._own: list[IO[str]] = []
        self._last_problem = ""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Callable[[], None]:
        """Start the periodic checks, and return a function that stops the checks."""
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._check)
        return self._end

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for lock in self._own:
            lock.close()

    def _check(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._check)
        try:
            if not is_in_place(self._lock, self._folder):
                self._lock = take_lock(self._folder)
                self._own.append(self._lock)
                self._journal.say(f"{self._folder / LOCK} was removed and has been created again", "warning")
            if self._control.restore():
                self._journal.say(f"{self._folder / FILE} was removed and has been created again", "warning")
            self._last_problem = ""
        except RunnerError as error:
            self._say_once(str(error))
        except OSError as error:
            what = f"cannot be recreated, {error.strerror}; commands cannot reach the supervisor"
            self._say_once(f"{self._folder / FILE}: {what}")

    def _say_once(self, problem: str) -> None:
        if problem != self._last_problem:
            self._journal.say(problem, "error")
        self._last_problem = problem
