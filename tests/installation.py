"""The RabbitMQ that the tests run: the machine's own, or an installation that a variable names.

A folder made by debootstrap contains a RabbitMQ that the libraries of this machine could not run. Its programs start in
their own mount namespace, in which the folder's ``/usr`` replaces the machine's. So all paths, including the data's,
are the same on both sides, and nothing stays mounted when the programs end.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

from runner.broker.installation import Installation, installed_server

#: The variable with the folder of an installation: it contains ``sbin``, as RabbitMQ's generic package does, or was
#: made by debootstrap.
VARIABLE = "FASTCOMMERCE_TEST_RABBITMQ"

_HOMES = "usr/lib/rabbitmq/lib/rabbitmq_server-*"
_PROGRAMS = ("rabbitmq-server", "rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-plugins", "rabbitmq-queues")
_WRAPPER = """#!/bin/sh
# {program} of {root}
exec unshare {options} -- sh -c 'mount --bind "$0" /usr && exec "$@"' {usr} {program} "$@"
"""


def use_installation() -> Installation | None:
    """Put the RabbitMQ that ``VARIABLE`` names first on this process's PATH; return the server for the tests, if any.

    Raises AssertionError if the variable names no RabbitMQ.
    """
    if (named := os.environ.get(VARIABLE)) is not None:
        folder = Path(named).resolve()
        homes = sorted(folder.glob(_HOMES))
        sbin = _front(folder, homes[-1]) if homes else folder / "sbin"
        if not (sbin / "rabbitmq-server").is_file():
            raise AssertionError(f"{VARIABLE}: no RabbitMQ in {folder}; allowed: an installation, or a Debian folder")
        if str(sbin) not in os.environ["PATH"].split(os.pathsep):
            os.environ["PATH"] = f"{sbin}{os.pathsep}{os.environ['PATH']}"
    return installed_server()


def _front(root: Path, home: Path) -> Path:
    """Create the ``sbin`` of a server home whose programs run with the libraries of ``root``."""
    front = Path(tempfile.gettempdir()) / f"fastcommerce-rabbitmq-{os.getuid()}-{home.name}-{root.name}"
    sbin = front / "sbin"
    sbin.mkdir(mode=0o700, parents=True, exist_ok=True)
    inside = f"/{home.relative_to(root)}"
    for name in _PROGRAMS:
        _write(sbin / name, root, f"{inside}/sbin/{name}")
    for name in ("epmd", "erl"):
        _write(sbin / name, root, f"/usr/bin/{name}")
    for part in ("plugins", "escript"):
        # In one step, because a broker of another test process may be starting from this folder.
        new = front / f"{part}.{os.getpid()}"
        new.unlink(missing_ok=True)
        new.symlink_to(home / part)
        new.replace(front / part)
    return sbin


def _write(path: Path, root: Path, program: str) -> None:
    options = "--mount" if os.getuid() == 0 else "--map-root-user --mount"
    text = _WRAPPER.format(program=program, root=root, usr=shlex.quote(str(root / "usr")), options=options)
    # Another test process may be about to run the program.
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(text)
    new.chmod(0o700)
    new.replace(path)
