"""The image of the Dockerfile, built by Buildah without an engine and without a registry.

The base is a Debian release with its own Python, under the name of the Dockerfile's base image. The official image has
the same release and the same minor version of Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.compose.file import instructions
from tests.matrix.debian import Debian, Unavailable, cache_folder
from tests.running import ROOT

#: Seconds for one Buildah command. The longest command installs all packages.
_BUILD_TIMEOUT = 560
_NAME = "localhost/fastcommerce"
#: The pip settings of this machine, such as the address of a mirror.
_PIP_SETTINGS = Path("/etc/pip.conf")


@dataclass(frozen=True)
class Image:
    """A root folder, and the settings of its image."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = "root"
    folder: str = "/"
    check: tuple[str, ...] = ()


def _buildah(*words: str) -> str:
    storage = cache_folder().parent / "buildah"
    command = ["buildah", "--root", f"{storage}/root", "--runroot", f"{storage}/run", *words]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_BUILD_TIMEOUT,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        words_of_it = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise Unavailable(f"{' '.join(command[:8])} … exited with code {done.returncode}\n{words_of_it}")
    return done.stdout.strip()


def base_name() -> str:
    """Return the base image of the Dockerfile."""
    (name,) = {rest.split()[0] for word, rest in instructions((ROOT / "Dockerfile").read_text()) if word == "FROM"}
    return name


def _make_base(say: Callable[[str], None]) -> None:
    name = base_name()
    version, suite = name.partition(":")[2].split("-")[0], name.rpartition("-")[2]
    full_name = f"docker.io/library/{name}"
    if full_name in _buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        return
    release = Debian(cache_folder() / suite)
    release.make(suite, say)
    python = Debian(cache_folder() / f"{suite}-python")
    python.make_from(release, ["python3-pip", "python3-venv"], say)
    if not (python.folder / f"usr/bin/python{version}").exists():
        raise Unavailable(f"{name} needs Python {version}, which Debian {suite} does not have")
    say(f"making {name} of Debian {suite}")
    container = _buildah("from", "scratch")
    try:
        # tar keeps owners and links. A copy by Buildah would read every file twice.
        root = Path(_buildah("mount", container))
        subprocess.run(["cp", "-a", f"{python.folder}/.", str(root)], check=True)
        (root / ".complete").unlink()
        for link in ("python", "pip"):
            (root / "usr/local/bin" / link).symlink_to(f"/usr/bin/{link}3")
        _buildah("config", "--env", "PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin", container)
        _buildah("commit", "-q", container, full_name)
    finally:
        _buildah("rm", container)


@contextmanager
def built(say: Callable[[str], None]) -> Iterator[Image]:
    """Build the Dockerfile, and yield the image while its root folder is mounted. Raises Unavailable."""
    missing = [name for name in ("buildah", "debootstrap", "unshare", "setpriv", "nsenter") if not shutil.which(name)]
    if os.getuid() != 0 or missing:
        raise Unavailable(
            f"this needs root and {', '.join(missing) or 'buildah'}; run it as root after deploy/setup.sh"
        )
    _make_base(say)
    say("building the Dockerfile")
    settings = ["--volume", f"{_PIP_SETTINGS}:{_PIP_SETTINGS}:ro"] if _PIP_SETTINGS.exists() else []
    # Docker's format supports health checks, OCI's does not. With layers a second build takes seconds.
    how = ["--isolation", "chroot", "--pull-never", "--layers", "--format", "docker", *settings]
    _buildah("bud", *how, "--tag", _NAME, str(ROOT))
    config = json.loads(_buildah("inspect", "--type", "image", _NAME))["Docker"]["config"]
    container = _buildah("from", "--pull-never", _NAME)
    try:
        yield _image(Path(_buildah("mount", container)), config)
    finally:
        _buildah("rm", container)


def _image(root: Path, config: dict[str, Any]) -> Image:
    check = config.get("Healthcheck", {}).get("Test", [])
    return Image(
        root,
        dict(pair.split("=", 1) for pair in config["Env"]),
        tuple(config.get("Entrypoint") or ()),
        tuple(config.get("Cmd") or ()),
        config.get("User") or "root",
        config.get("WorkingDir") or "/",
        tuple(check),
    )
