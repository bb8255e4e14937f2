"""Debian's RabbitMQ and PostgreSQL in place of the official images, which only a registry has.

They have the same users, folders, variables and entry points, as far as compose.yaml uses them. So the tests cover its
settings of the two servers, but not the official images.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.compose.image import Image
from tests.matrix.debian import Debian, cache_folder

#: Debian testing has the same RabbitMQ version as compose.yaml's image.
SUITE = "testing"
_PACKAGES = ["rabbitmq-server", "postgresql", "python3-venv", "procps"]
_PATH = "/usr/local/bin:/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DATA = "/var/lib/postgresql/data"

_RABBITMQ = """#!/bin/sh
exec "$@"
"""
# Like the official image: a server without TCP creates the user and the database, then the real server starts.
_POSTGRES = """#!/bin/sh
set -eu
PATH="$(echo /usr/lib/postgresql/*/bin):$PATH"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-host=scram-sha-256 --auth-local=trust
    pg_ctl -w -o "-c listen_addresses=" start
    createdb --username="$POSTGRES_USER" --maintenance-db=postgres "$POSTGRES_DB"
    pg_ctl -w -m fast stop
fi
exec "$@" -c listen_addresses='*'
"""


def release(say: Callable[[str], None]) -> Path:
    """Return the folder of a Debian release with both servers. Raises Unavailable."""
    found = Debian(cache_folder() / f"{SUITE}-rabbitmq")
    if not found.is_made:
        base = Debian(cache_folder() / SUITE)
        base.make(SUITE, say)
        found.make_from(base, _PACKAGES, say)
    return found.folder


def _layer(folder: Path, lower: Path, files: dict[str, str]) -> Path:
    """Mount files on top of a folder, in this process's own mount namespace. Return the merged folder."""
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(parents=True)
    for name, text in files.items():
        path = folder / "upper" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    where = f"lowerdir={lower},upperdir={folder}/upper,workdir={folder}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", where, str(folder / "root")], check=True)
    return folder / "root"


def rabbitmq(folder: Path, lower: Path) -> Image:
    """Return the replacement of ``rabbitmq:…-management``."""
    files = {
        "usr/local/bin/docker-entrypoint.sh": _RABBITMQ,
        "etc/rabbitmq/enabled_plugins": "[rabbitmq_management].\n",
        "etc/rabbitmq/conf.d/10-defaults.conf": "log.console = true\n",
    }
    environment = {"PATH": _PATH, "HOME": "/var/lib/rabbitmq", "LANG": "C.UTF-8"}
    return Image(_layer(folder, lower, files), environment, ("docker-entrypoint.sh",), ("rabbitmq-server",))


def postgres(folder: Path, lower: Path) -> Image:
    """Return the replacement of ``postgres:…``."""
    root = _layer(folder, lower, {"usr/local/bin/docker-entrypoint.sh": _POSTGRES})
    owner = (root / "var/lib/postgresql").stat()
    data = root / _DATA.lstrip("/")
    data.mkdir(mode=0o700)
    subprocess.run(["chown", f"{owner.st_uid}:{owner.st_gid}", str(data)], check=True)
    environment = {"PATH": _PATH, "PGDATA": _DATA, "LANG": "C.UTF-8"}
    return Image(root, environment, ("docker-entrypoint.sh",), ("postgres",))
