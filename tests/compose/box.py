"""A container of compose.yaml in private namespaces: read-only, without capabilities, with its own user."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.config.value import parse_duration
from tests.compose.file import environment_of
from tests.compose.image import Image
from tests.rabbit import wait_until
from tests.running import ROOT

#: Seconds until a container's first process exists.
_START_TIMEOUT = 20.0
_ENTER = Path(__file__).parent / "enter.sh"


@dataclass
class Host:
    """The shared parts of one project's containers: host names, named volumes, and a folder for their files."""

    folder: Path
    names: list[str]
    volumes: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        hosts = "".join(f"127.0.0.1 {name}\n" for name in ("localhost", *self.names))
        (self.folder / "hosts").write_text(hosts)


class Box:
    """One container. It starts with the object, and ends with this process at the latest."""

    def __init__(self, host: Host, name: str, service: dict[str, Any], image: Image, number: int = 1) -> None:
        self.name, self._service, self._image = f"{name}-{number}", service, image
        self._folder = host.folder / self.name
        self._folder.mkdir()
        for part in ("upper", "work", "root"):
            (self._folder / part).mkdir()
        if service["read_only"]:
            (self._folder / "read-only").touch()
        self._uid, self._gid = _ids(image.root, service.get("user", image.user))
        (self._folder / "mounts").write_text("".join(f"{line}\n" for line in self._mounts(host)))
        self._log = (self._folder / "log").open("ab")
        # Compose ignores the image's command if the service sets an entry point.
        default = () if "entrypoint" in service else image.command
        command = [*service.get("entrypoint", image.entrypoint), *service.get("command", default)]
        enter = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--pid",
            "--ipc",
            "--uts",
            "--fork",
            "--kill-child",
        ]
        self._process = subprocess.Popen(
            [
                *enter,
                *("sh", str(_ENTER), str(self._folder), str(image.root), service.get("hostname", self.name)),
                *self._inside([word.replace("$$", "$") for word in command]),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def _mounts(self, host: Host) -> list[str]:
        lines = [f"ro {host.folder / 'hosts'} /etc/hosts"]
        for one in self._service.get("tmpfs", []):
            place, _, options = one.partition(":")
            lines.append(f"tmpfs {options or 'mode=1777'} {place}")
        for one in self._service.get("volumes", []):
            source, place, *mode = one.split(":")
            path = ROOT / source if source.startswith(".") else self._volume(host, source, place)
            lines.append(f"{'ro' if mode == ['ro'] else 'rw'} {path} {place}")
        return lines

    def _volume(self, host: Host, name: str, place: str) -> Path:
        """Return a named volume. A new volume has the owner and contents of the image's folder, as with Docker."""
        if name not in host.volumes:
            path = host.folder / "volumes" / name
            path.parent.mkdir(exist_ok=True)
            theirs = self._image.root / place.lstrip("/")
            if theirs.is_dir():
                subprocess.run(["cp", "-a", str(theirs), str(path)], check=True)
            else:
                path.mkdir()
            host.volumes[name] = path
        return host.volumes[name]

    def _inside(self, command: list[str]) -> list[str]:
        """Return the command line as the container's user, with its variables and without any capability."""
        given = environment_of(self._service)
        variables = self._image.environment | {name: value for name, value in given.items() if value is not None}
        rights = ["--bounding-set=-all", "--inh-caps=-all"] if self._service["cap_drop"] == ["ALL"] else []
        if "no-new-privileges:true" in self._service["security_opt"]:
            rights.append("--no-new-privs")
        ids = [f"--reuid={self._uid}", f"--regid={self._gid}", "--clear-groups"]
        words = [f"{name}={value}" for name, value in variables.items()]
        # One setpriv drops the rights and changes the user, because the change needs the rights.
        return ["setpriv", *ids, *rights, "env", "-i", "-C", self._image.folder, *words, *command]

    @property
    def output(self) -> str:
        """The container's output so far."""
        return (self._folder / "log").read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """The exit code of the first process, or None while the process runs."""
        return self._process.poll()

    def first_process(self) -> int:
        """Return the process with number 1 in the container."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")

        def found() -> int | None:
            assert self.exit_code is None, f"{self.name} exited with code {self.exit_code}\n{self.output[-3000:]}"
            pids = children.read_text().split()
            # Until its exec the process is still the shell outside of the root folder.
            return int(pids[0]) if pids and os.readlink(f"/proc/{pids[0]}/root") != "/" else None

        return int(wait_until(found, _START_TIMEOUT, f"{self.name} has begun"))

    def run(self, *command: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as ``docker compose exec`` does."""
        pid = str(self.first_process())
        enter = ["nsenter", "--target", pid, "--mount", "--pid", "--ipc", "--uts", f"--root=/proc/{pid}/root"]
        return subprocess.run(
            [*enter, *self._inside(list(command))],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )

    def is_healthy(self) -> bool:
        """Run the container's health check once. Return True if it succeeds in time."""
        check = self._service["healthcheck"]
        assert check["test"][0] == "CMD"
        try:
            return self.run(*check["test"][1:], timeout=parse_duration(check["timeout"])).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def capabilities(self) -> dict[str, str]:
        """Return the user ids and capabilities of the first process, as the kernel reports them."""
        status = Path(f"/proc/{self.first_process()}/status").read_text()
        lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        return {name: lines[name] for name in ("Uid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")}

    def stop(self) -> int:
        """Stop the first process as the engine does, and return its exit code. Raises AssertionError."""
        grace = parse_duration(self._service.get("stop_grace_period", "10s"))
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.first_process(), signal.SIGTERM)
        try:
            return self._process.wait(grace)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not stopped within {grace:g} s\n{self.output[-3000:]}") from None

    def wait(self, timeout: float) -> int:
        """Return the exit code of a container that exits without a stop."""
        return self._process.wait(timeout)

    def close(self) -> None:
        """Kill all processes in the container."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()


def _ids(root: Path, user: str) -> tuple[int, int]:
    """Return the ids of a user and its group from the image's list of users."""
    for line in (root / "etc/passwd").read_text().splitlines():
        name, _, uid, gid, *_ = line.split(":")
        if user in (name, uid):
            return int(uid), int(gid)
    raise AssertionError(f"{root}: no user {user}")
