"""A real PostgreSQL for the tests: private, on a free port, and removed at the end."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.rabbit import wait_until


def programs() -> Path:
    """Return the folder of the server's programs: in PATH, or in Debian's place."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    assert folders, "the tests need PostgreSQL: apt-get install postgresql"
    return folders[-1]


def other_user() -> pwd.struct_passwd:
    """Return the user who runs the server if the tests run as root."""
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


class Postgres:
    """A private cluster. If the tests run as root, which PostgreSQL refuses, another user runs it."""

    def __init__(self) -> None:
        self._programs, self.port = programs(), free_port()
        # Not in pytest's folders, which only their owner may enter.
        self._folder = Path(tempfile.mkdtemp(prefix="fastcommerce-postgres-"))
        self._rights: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = other_user()
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._rights = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._run("initdb", "-D", "data", "-A", "trust", "-U", "shop", "--no-sync", "--locale", "C", "-E", "UTF8")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.run(command, cwd=self._folder, check=True, capture_output=True, timeout=60, **self._rights)

    def start(self) -> None:
        """Start the server and wait until it responds."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder}"
        command = [str(self._programs / "postgres"), "-D", "data", *options.split()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **self._rights
            )
        wait_until(self._answers, 30, "PostgreSQL answers")

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        command = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False, timeout=10).returncode == 0

    def stop(self) -> None:
        """Stop the server at once, and disconnect its clients."""
        # SIGINT is its "fast shutdown" (PostgreSQL: "Shutting Down the Server").
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)

    def freeze(self) -> None:
        """Suspend all processes of the server, including those of present connections."""
        for pid in self._pids():
            # A process of the server, such as a vacuum, may have exited.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume all processes of the server."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [self._process.pid, *map(int, children.read_text().split())]

    def make_database(self, name: str) -> str:
        """Create an empty database. Return its address."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "shop", name)
        return f"postgresql://shop@127.0.0.1:{self.port}/{name}"

    def own(self, folder: Path) -> None:
        """Give a folder to the user who runs the server."""
        if self._rights:
            os.chown(folder, self._rights["user"], self._rights["group"])

    def make_tablespace(self, name: str, folder: Path) -> None:
        """Create a tablespace in a new folder, below a folder of the server's user."""
        folder.mkdir(mode=0o700)
        self.own(folder)
        self.execute(f"CREATE TABLESPACE {name} LOCATION '{folder}'", "postgres")

    def execute(self, statement: str, database: str) -> None:
        """Execute one statement."""
        self._run("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "shop", "-d", database, "-c", statement)

    def close(self) -> None:
        """Stop the server and remove its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
