"""The version of Python and the packages that FastCommerce needs, with a remedy if one is missing.

Python 3.7 and later can import this module. The module needs no package.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import Optional

from runner.invocation import SOURCE, callable_path, near, start_of

#: The oldest version in ``requires-python`` of pyproject.toml.
OLDEST = (3, 11)


def old_python() -> Optional[str]:  # noqa: UP045 - old versions read this line
    """Return an error if this version of Python is too old, or None."""
    if sys.version_info >= OLDEST:
        return None
    return _problem(f"Python {sys.version.split()[0]} is too old, allowed: 3.{OLDEST[1]} and later")


def missing_package(error: ImportError) -> Optional[str]:  # noqa: UP045 - old versions read this line
    """Return an error with the missing or unusable package and a remedy, or None if no package caused the error."""
    name = (error.name or "").partition(".")[0]
    if name in ("", "runner", "plugins") or name in sys.stdlib_module_names:
        return None
    words = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be used, {error.msg}"
    return _problem(f"the package {name!r} {words}")


def _problem(what: str) -> str:
    prepared = os.path.join(str(SOURCE), ".venv", "bin", "python")
    script = os.path.join(str(SOURCE), "deploy", "setup.sh")
    if os.path.exists(prepared) and os.path.realpath(os.path.dirname(prepared)) != os.path.realpath(
        os.path.dirname(sys.executable)
    ):
        remedy = " ".join(["use", start_of(prepared), *map(shlex.quote, sys.argv[1:])])
    elif os.path.exists(script):
        remedy = f"install the packages of FastCommerce: {shlex.quote(near(script))} run"
    else:
        remedy = f"install it; to list all missing packages: {callable_path(sys.executable)} -m pip check"
    return f"{callable_path(sys.executable)}: {what}; {remedy}"
