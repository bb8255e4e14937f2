"""A container engine, and the command lines that run RabbitMQ in it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from runner.address import PASSWORD_VARIABLE, USER_VARIABLE, VHOST_VARIABLE

IMAGE = "rabbitmq:4.3-management"
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Box:
    """A container of RabbitMQ: its name, and the loopback address and ports it is published on."""

    name: str
    host: str
    port: int
    management_port: int
    image: str = IMAGE

    def run_command(self, engine: str) -> list[str]:
        """Return the command that runs it in the foreground; its login comes from the environment."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        # Without a value the engine takes the variable from its own environment: everybody can read an argv.
        login = [word for name in (USER_VARIABLE, PASSWORD_VARIABLE, VHOST_VARIABLE) for word in ("-e", name)]
        return [
            *(engine, "run", "--rm", "--name", self.name),
            # RabbitMQ names its data after the host, so a name per run would lose them.
            *("--hostname", "fastcommerce"),
            *("-v", f"{self.name}:/var/lib/rabbitmq"),
            *("-p", f"{host}:{self.port}:5672"),
            *("-p", f"{host}:{self.management_port}:15672"),
            *login,
            self.image,
        ]


def find_engine(path: str | None = None) -> str | None:
    """Return the program of an engine that answers; a client without its engine is of no use."""
    for name in ("docker", "podman"):
        program = shutil.which(name, path=path)
        if program is not None and _answers(program):
            return program
    return None


def _answers(program: str) -> bool:
    try:
        done = subprocess.run(
            [program, "info"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
