"""A small file system that can be really full, in a mount namespace that ends with the run."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

#: Holds the namespace that was left for a private one.
_LEFT = "CHAOS_LEFT_NAMESPACE"
_BALLAST = "ballast"
#: unshare(1): root needs no user namespace; others, and root without all its rights, get one with the right to mount.
_UNSHARE = (("unshare", "-m"), ("unshare", "-U", "--map-current-user", "--keep-caps", "-m"))
#: Bytes for each write of ballast: large ones for speed, then small ones for the rest.
_STEPS = (1 << 20, 4096, 1)


def enter() -> bool:
    """Execute this program again in a mount namespace of its own, with the same arguments and pid.

    What is mounted there is gone with the last process in it, however that ends. Returns only where nothing is left to
    do: True in such a namespace, False where the kernel or a container allows none.
    """
    if is_possible():
        return True
    for unshare in _UNSHARE:
        if _works([*unshare, "mount", "-t", "tmpfs", "tmpfs", os.path.realpath(".")]):
            sys.stdout.flush()
            sys.stderr.flush()
            os.environ[_LEFT] = _namespace()
            os.execvp("unshare", [*unshare, sys.executable, *sys.orig_argv[1:]])
    return False


def is_possible() -> bool:
    """Whether a Disk can be made: this process is in the namespace that ``enter`` made."""
    return os.environ.get(_LEFT, _namespace()) != _namespace()


class Disk:
    """A tmpfs of ``size`` bytes at ``folder``, which is made where it is missing; below it nothing else may fill it.

    Raises RuntimeError outside a namespace of its own, and where it cannot be mounted.
    """

    def __init__(self, folder: Path, size: int) -> None:
        if not is_possible():
            raise RuntimeError("disk: no mount namespace of its own, so that a mount would stay; call enter() first")
        self.folder, self.size = folder, size
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"disk: cannot mount a tmpfs at {folder}, {done.stderr.strip()}")
        self._ballast = folder / _BALLAST

    @property
    def left(self) -> int:
        """Bytes that are still free."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self) -> None:
        """Write ballast until there is no space for one more byte; again, where others have removed something."""
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for step in _STEPS:
                _write_all(descriptor, bytes(step))
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Remove the ballast."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it, also where files are open; the folder stays, empty."""
        # Lazily: what holds a file there keeps it until it ends (umount(8)).
        subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)


def _write_all(descriptor: int, piece: bytes) -> None:
    """Write until it is refused. Raises OSError for any reason but that nothing is left."""
    try:
        while True:
            os.write(descriptor, piece)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _namespace() -> str:
    return os.readlink("/proc/self/ns/mnt")


def _works(command: list[str]) -> bool:
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False
