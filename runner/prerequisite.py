"""Checks for the Python version and the packages that FastCommerce needs, with a remedy for each error.

The module itself runs on Python 3.7 and later, and needs no package.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import Optional

from runner.invocation import SOURCE, callable_path, near, start_of

#: The oldest version that ``requires-python`` in pyproject.toml allows.
OLDEST = (3, 11)


def old_python() -> Optional[str]:  # noqa: UP045 - old versions read this line
    """Return an error message if this version of Python is too old, and otherwise None."""
    if sys.version_info >= OLDEST:
        return None
    return _problem(f"Python {sys.version.split()[0]} is too old (minimum 3.{OLDEST[1]})", "install a later version")


def missing_package(error: ImportError) -> Optional[str]:  # noqa: UP045 - old versions read this line
    """Return an error message about a missing or unusable package, or None if ``error`` has another cause."""
    name = (error.name or "").partition(".")[0]
    if name in ("", "runner", "plugins") or name in sys.stdlib_module_names:
        return None
    words = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be used, {error.msg}"
    remedy = f"install the package; to list all missing packages, run: {callable_path(sys.executable)} -m pip check"
    return _problem(f"the package {name!r} {words}", remedy)


def _problem(what: str, remedy: str) -> str:
    prepared = os.path.join(str(SOURCE), ".venv", "bin", "python")
    script = os.path.join(str(SOURCE), "deploy", "setup.sh")
    if os.path.exists(prepared) and os.path.realpath(os.path.dirname(prepared)) != os.path.realpath(
        os.path.dirname(sys.executable)
    ):
        remedy = " ".join(["use", start_of(prepared), *map(shlex.quote, sys.argv[1:])])
    elif os.path.exists(script):
        remedy = f"install the required packages with: {shlex.quote(near(script))} run"
    return f"{callable_path(sys.executable)}: {what}; {remedy}"
