"""A small file system that can really become full, in a mount namespace that disappears after the run."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

#: The environment variable with the original namespace of a process that has entered a private one.
_LEFT = "CHAOS_LEFT_NAMESPACE"
_BALLAST = "ballast"
#: unshare(1): root needs no user namespace. Other users, and root without all capabilities, need one to mount.
_UNSHARE = (("unshare", "-m"), ("unshare", "-U", "--map-current-user", "--keep-caps", "-m"))
#: Bytes for each write of ballast: first large writes for speed, then small ones for the rest.
_STEPS = (1 << 20, 4096, 1)


def enter() -> bool:
    """Execute this program again in a private mount namespace, with the same arguments and pid.

    The mounts disappear with the last process in the namespace. The function returns only if the namespace exists
    (True) or if the kernel or a container allows none (False).
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
    """Return True if this process is in a namespace from ``enter``, so that it can create a Disk."""
    return os.environ.get(_LEFT, _namespace()) != _namespace()


class Disk:
    """A tmpfs of ``size`` bytes at ``folder``, which is created if it is missing. Only its user may fill it.

    Raises RuntimeError outside a private namespace, or if the mount fails.
    """

    def __init__(self, folder: Path, size: int) -> None:
        if not is_possible():
            raise RuntimeError("disk: no private mount namespace, so a mount would remain; call enter() first")
        self.folder, self.size = folder, size
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"disk: cannot mount a tmpfs at {folder}, {done.stderr.strip()}")
        self._ballast = folder / _BALLAST

    @property
    def left(self) -> int:
        """Return the number of free bytes."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self) -> None:
        """Write ballast until not even one byte is free. A second call fills space that was freed since."""
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
        """Unmount the disk, even if files are open. The empty folder remains."""
        # A lazy unmount: processes with open files keep the disk until they exit (umount(8)).
        subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)


def _write_all(descriptor: int, piece: bytes) -> None:
    """Write until the disk is full. Raises OSError for any other reason."""
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
