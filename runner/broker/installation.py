"""The installed RabbitMQ server, and a copy with only the plugins that a private node needs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: Folders with programs that ordinary users may run, although the folders are not on their PATH.
_FURTHER_FOLDERS = ("/usr/sbin", "/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/opt/homebrew/sbin")
_APPLICATIONS = re.compile(r"\{\s*applications\s*,\s*\[([^\]]*)\]")


@dataclass(frozen=True)
class Installation:
    """A RabbitMQ installation, whose ``home`` folder contains ``sbin``, ``escript`` and ``plugins``."""

    home: Path
    version: str

    @property
    def script(self) -> Path:
        """The path of RabbitMQ's start script. Debian's wrapper script refuses ordinary users."""
        return self.home / "sbin" / "rabbitmq-server"


def installed_server(path: str | None = None) -> Installation | None:
    """Return the RabbitMQ installation on PATH or in the usual folders, or None if there is none.

    ``path`` replaces the PATH of the environment.
    """
    names = [shutil.which("rabbitmq-server", path=path)]
    names += [str(Path(folder, "rabbitmq-server")) for folder in _FURTHER_FOLDERS]
    for name in names:
        if name is None or not Path(name).is_file():
            continue
        real = Path(name).resolve()
        # Debian links the command to a wrapper. The wrapper's folder also contains the link to the real script.
        for script in (real, (real.parent / "rabbitmq-server").resolve()):
            home = script.parent.parent
            version = _version(home)
            if version and (home / "sbin" / "rabbitmq-server").is_file():
                return Installation(home, version)
    return None


def _version(home: Path) -> str | None:
    for entry in sorted((home / "plugins").glob("rabbit-[0-9]*")):
        return entry.name.removeprefix("rabbit-").removesuffix(".ez")
    return None


def link_needed(server: Installation, folder: Path, plugins: Iterable[str]) -> Installation:
    """Fill ``folder`` with links to the server's files, except for unused RabbitMQ plugins.

    RabbitMQ searches the folders of all plugins for each module, which causes about 40,000 failed searches. Without the
    unused plugins, the node starts in half the time.
    """
    entries = {_application(entry): entry for entry in sorted((server.home / "plugins").iterdir())}
    needed = _closure(entries, ["rabbit", *plugins])
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "plugins").mkdir(parents=True)
    for part in ("sbin", "escript"):
        (folder / part).symlink_to(server.home / part)
    for name, entry in entries.items():
        if name in needed or not name.startswith("rabbitmq_"):
            (folder / "plugins" / entry.name).symlink_to(entry)
    return Installation(folder, server.version)


def _application(entry: Path) -> str:
    return entry.name.removesuffix(".ez").rpartition("-")[0] or entry.name


def _closure(entries: dict[str, Path], names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found or name not in entries:
            continue
        found.add(name)
        description = entries[name] / "ebin" / f"{name}.app"
        if description.is_file():
            match = _APPLICATIONS.search(description.read_text(encoding="utf-8", errors="replace"))
            waiting += re.findall(r"[a-z][a-z0-9_]*", match[1]) if match else []
    return found
