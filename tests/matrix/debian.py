"""A Debian release in a folder, made by debootstrap, and programs that run in it.

A program in a folder uses a copy-on-write view of the folder, in namespaces of its own. The folder stays unchanged,
nothing stays mounted, and all processes end with the first one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

#: The packages of a person who follows the README, and no others.
NEWCOMER = ("ca-certificates", "git", "make", "python3")
#: The company certificates of this machine, if any. The folder must trust them too.
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_NO_SERVICES = "#!/bin/sh\nexit 101\n"
_APT = ("apt-get", "-q", "-y", "--no-install-recommends", "install")
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
# The mounts are in a private namespace. $0 is the view's folder, $1 the lower folder, and the command follows.
_ENTER = """
set -e
view=$0 lower=$1
shift
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$view/upper,workdir=$view/work" "$view/root"
mount -t proc proc "$view/root/proc"
mount --rbind /dev "$view/root/dev"
mkdir -p "$view/root/source"
mount --bind "$view/source" "$view/root/source"
for file in /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt; do
    if [ -e "$file" ]; then mkdir -p "$view/root${file%/*}"; cp -L "$file" "$view/root$file"; fi
done
# The owner of the checkout may differ from the user who clones it.
printf '[safe]\n\tdirectory = *\n' > "$view/root/etc/gitconfig"
exec chroot "$view/root" "$@"
"""


class Unavailable(Exception):
    """A missing right or program, without which this machine cannot create or enter such a folder."""


def cache_folder() -> Path:
    """The folder in which releases are kept between runs."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "fastcommerce" / "debian"


class Debian:
    """One release in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def is_made(self) -> bool:
        """Return True if the folder is complete."""
        return (self.folder / ".complete").exists()

    def make(self, suite: str, say: Callable[[str], None]) -> None:
        """Install the release, with a newcomer's packages. Raises Unavailable."""
        if self.is_made:
            return
        if os.getuid() != 0 or shutil.which("debootstrap") is None:
            raise Unavailable(
                "a Debian folder needs root and debootstrap; apt-get install debootstrap, then run it as root"
            )
        say(f"installing Debian {suite} into {self.folder}: about 300 MB, a minute or two")
        self._begin()
        self._run(["debootstrap", "--variant=minbase", suite, str(self.folder)])
        self._install(NEWCOMER)

    def make_from(self, other: Debian, packages: Sequence[str], say: Callable[[str], None]) -> None:
        """Copy another release and install more packages into the copy. Raises Unavailable."""
        if self.is_made:
            return
        say(f"installing {' '.join(packages)} into {self.folder}")
        self._begin()
        self.folder.rmdir()
        self._run(["cp", "-a", str(other.folder), str(self.folder)])
        (self.folder / ".complete").unlink()
        self._install(packages)

    @contextmanager
    def view(self, checkout: Path) -> Iterator[View]:
        """Yield a copy-on-write view with a clonable copy of ``checkout`` as ``/source``.

        Remove the view at the end.
        """
        with tempfile.TemporaryDirectory(prefix="fastcommerce-view-", ignore_cleanup_errors=True) as name:
            # A bare clone, because the .git of a worktree points to a folder outside of it.
            clone = ["git", "clone", "-q", "--bare", str(checkout), f"{name}/source"]
            subprocess.run(clone, check=True)
            Path(name).chmod(0o755)
            yield View(self.folder, Path(name))

    def _begin(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def _install(self, packages: Sequence[str]) -> None:
        guard = self.folder / "usr/sbin/policy-rc.d"
        guard.write_text(_NO_SERVICES)
        guard.chmod(0o755)
        for path in (Path("/etc/resolv.conf"), _CERTIFICATES):
            if path.exists() and (self.folder / path.relative_to("/")).parent.is_dir():
                shutil.copy(path, self.folder / path.relative_to("/"))
        inside = " ".join(("mount -t proc proc /proc && exec", *_APT, *packages))
        self._run(["unshare", "--mount", "--", "chroot", str(self.folder), "sh", "-c", inside])
        guard.unlink()
        (self.folder / ".complete").touch()

    def _run(self, command: list[str]) -> None:
        environment = _ENVIRONMENT | {"DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
        if done.returncode:
            words = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise Unavailable(f"{self.folder}: {command[0]} exited with code {done.returncode}\n{words}")


class View:
    """A copy-on-write view of a folder. Each command sees the changes of the commands before it."""

    def __init__(self, lower: Path, folder: Path) -> None:
        self._lower, self._folder = lower, folder
        for name in ("upper", "work", "root"):
            (folder / name).mkdir()

    def command(self, *words: str, user: str = "root") -> list[str]:
        """Return the command line that runs ``words`` in the view."""
        environment = [f"{name}={value}" for name, value in (_ENVIRONMENT | {"HOME": _home(user)}).items()]
        as_user = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        # The command and all processes in the view end with this process, however it ends.
        enter = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
        inside = [*as_user, "env", "-i", *environment, *words]
        return [*enter, "sh", "-c", _ENTER, str(self._folder), str(self._lower), *inside]

    def run(self, *words: str, user: str = "root") -> str:
        """Run a command to its end and return its output. Raises AssertionError with its last output if it fails."""
        command = self.command(*words, user=user)
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        return done.stdout


def _home(user: str) -> str:
    return "/root" if user == "root" else f"/home/{user}"
