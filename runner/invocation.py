"""The command lines in messages, which the user can run exactly as printed.

A process that prints a message may run in a different folder from the user's shell. The command that the user starts
therefore determines the prefix of all command lines, and child processes inherit this prefix.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The environment variable that passes the prefix of all printed commands to child processes.
VARIABLE = "FASTCOMMERCE_INVOCATION"
#: The environment variable with the project of ``VARIABLE``, as an absolute path.
PROJECT_VARIABLE = "FASTCOMMERCE_INVOCATION_PROJECT"
#: The name of the installed program, which is equivalent to ``python -m runner``.
PROGRAM = "fastcommerce"
#: The environment variable that a shell sets to request completions from click.
COMPLETION_VARIABLE = f"_{PROGRAM.upper()}_COMPLETE"
#: The folder that contains the package ``runner``.
SOURCE = Path(__file__).resolve().parent.parent


@contextmanager
def invoked_for(project: Path) -> Iterator[None]:
    """Make this process and its child processes print commands for ``project`` and the current folder.

    A process that inherits a prefix for the same project keeps it, because it was not started in the user's shell.
    """
    before = {name: os.environ.get(name) for name in (VARIABLE, PROJECT_VARIABLE)}
    folder = str(project.resolve())
    if not before[VARIABLE] or before[PROJECT_VARIABLE] != folder:
        os.environ.update({VARIABLE: _prefix(project), PROJECT_VARIABLE: folder})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def invocation(*arguments: str) -> str:
    """Return a command line that calls this program with the quoted arguments in the user's shell."""
    prefix = os.environ.get(VARIABLE) or _prefix(Path())
    return " ".join([prefix, *(shlex.quote(one) for one in arguments)])


def reset_invocation(project: Path) -> str:
    """Return a command line that deletes ``var/`` of a stopped project, with the broker's messages and the database."""
    is_here, folder = _is_current(project), project.resolve()
    if folder == SOURCE:
        return "make reset" if is_here else f"make -C {shlex.quote(str(folder))} reset"
    return "rm -r var" if is_here else f"rm -r {shlex.quote(str(folder / 'var'))}"


def start_of(executable: str) -> str:
    """Return a command line that runs ``python -m runner`` with this interpreter from the current folder."""
    # If Python is started with -m, it also searches the current folder for modules.
    is_here = _current() == str(SOURCE) and not getattr(sys.flags, "safe_path", False)  # since 3.11
    return f"{'' if is_here else _path_variable()}{callable_path(executable)} -m runner"


def callable_path(path: str) -> str:
    """Return the name of a program if it is on ``PATH``, or else the path that calls it from the current folder."""
    name, folder = os.path.basename(path), os.path.dirname(path)
    # shutil.which is not used, because importing shutil is slow.
    folders = [one or "." for one in os.environ.get("PATH", "").split(os.pathsep)]
    found = next((one for one in folders if os.access(os.path.join(one, name), os.X_OK)), None)
    # Only the folders are resolved, because the interpreters of all virtual environments link to the same file.
    if found is not None and os.path.realpath(found) == os.path.realpath(folder):
        return name
    return shlex.quote(near(path))


def near(path: str) -> str:
    """Return a path inside the current folder as a relative path, and any other path unchanged."""
    here = _current()
    if not here or not path.startswith(os.path.join(here, "")):
        return path
    # A shell searches PATH for a command without a slash.
    relative = os.path.relpath(path, here)
    return relative if "/" in relative else f"./{relative}"


def _prefix(project: Path) -> str:
    option = "" if _is_current(project) else f" --project {shlex.quote(str(project))}"
    # Child processes are started with -m, but inherit the prefix of the command that the user started.
    if os.path.basename(sys.argv[0]) == PROGRAM:
        return f"{_path_variable()}{callable_path(sys.argv[0])}{option}"
    return f"{start_of(sys.executable)}{option}"


def _path_variable() -> str:
    """Return a ``PYTHONPATH`` assignment with a trailing space if a shell may need it to find the package."""
    value = os.environ.get("PYTHONPATH", "")
    leads_here = any(one and Path(one).resolve() == SOURCE for one in value.split(os.pathsep))
    return f"PYTHONPATH={shlex.quote(value)} " if leads_here else ""


def _is_current(project: Path) -> bool:
    return project == Path() or str(project.resolve()) == _current()


def _current() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""  # the current folder was removed
