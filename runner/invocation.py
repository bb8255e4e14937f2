"""The command lines in messages, in a form that the user can run as printed.

The process that prints a message may be in another folder than the user's shell. So the command that the user starts
determines once how the shell can call the program again. Child processes inherit the result.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The environment variable that passes the start of all printed commands to child processes.
VARIABLE = "FASTCOMMERCE_INVOCATION"
#: The program that an installation provides in addition to ``python -m runner``.
PROGRAM = "fastcommerce"
#: The environment variable with which a shell requests completions from click.
COMPLETION_VARIABLE = f"_{PROGRAM.upper()}_COMPLETE"
#: The folder that contains the package ``runner``.
SOURCE = Path(__file__).resolve().parent.parent


@contextmanager
def invoked_for(project: Path) -> Iterator[None]:
    """Print commands, here and in child processes, for this project and the current folder."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = _prefix(project)
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def invocation(*arguments: str) -> str:
    """Return a command line for the user's shell, from the program as it was started and the quoted arguments."""
    prefix = os.environ.get(VARIABLE) or _prefix(Path())
    return " ".join([prefix, *(shlex.quote(one) for one in arguments)])


def reset_invocation(project: Path) -> str:
    """Return a command line that removes a stopped project's ``var/``, with the broker's messages and the database."""
    is_here, folder = _is_current(project), project.resolve()
    if folder == SOURCE:
        return "make reset" if is_here else f"make -C {shlex.quote(str(folder))} reset"
    return "rm -r var" if is_here else f"rm -r {shlex.quote(str(folder / 'var'))}"


def start_of(executable: str) -> str:
    """Return ``python -m runner`` with this interpreter, for a shell in the current folder."""
    # With -m, Python also searches the current folder for modules.
    is_here = _current() == str(SOURCE) and not getattr(sys.flags, "safe_path", False)  # since 3.11
    return f"{'' if is_here else _path_variable()}{callable_path(executable)} -m runner"


def callable_path(path: str) -> str:
    """Return the path that calls a program from the current folder, or only its name if it is on ``PATH``."""
    name, folder = os.path.basename(path), os.path.dirname(path)
    # This loop replaces shutil.which, because the import of shutil is slow.
    folders = [one or "." for one in os.environ.get("PATH", "").split(os.pathsep)]
    found = next((one for one in folders if os.access(os.path.join(one, name), os.X_OK)), None)
    # The paths of the files are not resolved, because all virtual environments link to the same interpreter.
    if found is not None and os.path.realpath(found) == os.path.realpath(folder):
        return name
    return shlex.quote(near(path))


def near(path: str) -> str:
    """Return the relative path of a file in the current folder, and any other path unchanged."""
    here = _current()
    if not here or not path.startswith(os.path.join(here, "")):
        return path
    # A shell searches PATH for a name without a slash.
    relative = os.path.relpath(path, here)
    return relative if "/" in relative else f"./{relative}"


def _prefix(project: Path) -> str:
    option = "" if _is_current(project) else f" --project {shlex.quote(str(project))}"
    # Child processes are started with -m, but they inherit the result.
    if os.path.basename(sys.argv[0]) == PROGRAM:
        return f"{_path_variable()}{callable_path(sys.argv[0])}{option}"
    return f"{start_of(sys.executable)}{option}"


def _path_variable() -> str:
    """Return an assignment of ``PYTHONPATH`` and a space if a shell may need it to find the package."""
    value = os.environ.get("PYTHONPATH", "")
    leads_here = any(one and Path(one).resolve() == SOURCE for one in value.split(os.pathsep))
    return f"PYTHONPATH={shlex.quote(value)} " if leads_here else ""


def _is_current(project: Path) -> bool:
    return project == Path() or str(project.resolve()) == _current()


def _current() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""  # the folder was removed
