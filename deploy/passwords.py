"""Creation of a random password for each server in compose.yaml, and of the address that contains it.

The dashboard's token is created in the same way. Its address opens the page in a browser.

Usage: ``python -m deploy.passwords [--replace]``, in the service ``passwords`` of compose.yaml.

Each server has a volume with two files: ``password``, which the server reads when it creates its user, and ``url``,
which the services read. An existing password stays, because the server has stored it. ``RABBITMQ_PASSWORD`` and
``POSTGRES_PASSWORD`` set a password, as do ``…_FILE`` with the path of a file. ``--replace`` replaces an existing
password by the set password, after the server itself has got the new password.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from runner.bounded_file import read_bounded
from runner.config.variable import MAX_BYTES, find_variable
from runner.errors import EXIT_CONFIG, EXIT_OK

#: Bytes of randomness in a password: as many as in a key of 256 bits.
_RANDOM_BYTES = 32


class Unusable(Exception):
    """A password that cannot be used, or a volume that cannot be written."""


@dataclass(frozen=True)
class Login:
    """The user of a server: the variable that may set its password, the volume, and the address without a password."""

    variable: str
    folder: Path
    address: str

    def make(self, environment: Mapping[str, str], *, replaces: bool) -> str:
        """Write both files, and return a line that reports it. Raises Unusable."""
        wanted = self._wanted(environment)
        path = self.folder / "password"
        found = self._found(path)
        if found is not None and wanted not in (None, found) and not replaces:
            raise Unusable(
                f"{self.variable} is not the password of the server; set the new password on the server and run this"
                " with --replace (docs/containers.md), or unset the variable"
            )
        password = wanted or found or secrets.token_urlsafe(_RANDOM_BYTES)
        if password != found:
            _write(path, password)
        # Written in any case, because an earlier run may have stopped between the two files.
        _write(self.folder / "url", self.address.format(quote(password, safe="")))
        return f"{path}: {'kept' if password == found else 'replaced' if found else 'made'}"

    @staticmethod
    def _found(path: Path) -> str | None:
        try:
            return read_bounded(path, MAX_BYTES).decode() if path.exists() else None
        except UnicodeDecodeError:
            # The error of the codec would show the bytes.
            raise Unusable(f"{path}: not UTF-8; write the password of the server into it") from None

    def _wanted(self, environment: Mapping[str, str]) -> str | None:
        try:
            password = find_variable(self.variable, environment)
        except ValueError as error:
            raise Unusable(str(error)) from None
        if password is not None and not password.isprintable():
            raise Unusable(f"{self.variable} has a character that cannot be printed; allowed: printable text")
        return password


LOGINS = (
    Login("RABBITMQ_PASSWORD", Path("/run/broker"), "amqp://fastcommerce:{}@rabbitmq:5672/"),
    Login("POSTGRES_PASSWORD", Path("/run/database"), "postgresql://fastcommerce:{}@postgres:5432/fastcommerce"),
    Login("DASHBOARD_TOKEN", Path("/run/dashboard"), "http://localhost:8080/?token={}"),
)


def _write(path: Path, text: str) -> None:
    # Atomic and synced to the disk, because no other copy of the password exists.
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        # The servers run as other users. Only containers that mount the volume can open the file.
        os.fchmod(file.fileno(), 0o444)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def main(
    arguments: list[str] | None = None,
    environment: Mapping[str, str] = os.environ,
    logins: tuple[Login, ...] = LOGINS,
) -> int:
    """Create the passwords, print a line for each, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.passwords", description="Create the servers' passwords.")
    parser.add_argument("--replace", action="store_true", help="replace an existing password by the set password")
    replaces = parser.parse_args(arguments).replace
    for login in logins:
        try:
            print(f"passwords: {login.make(environment, replaces=replaces)}")
        except Unusable as error:
            print(f"passwords: {error}", file=sys.stderr)
            return EXIT_CONFIG
        except OSError as error:
            print(f"passwords: {login.folder}: cannot be written, {error.strerror or error}", file=sys.stderr)
            return EXIT_CONFIG
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
