"""The entry point of the ``fastcommerce`` program and of ``python -m runner``."""

from __future__ import annotations

import os
import sys

from runner import prerequisite
from runner.invocation import invocation

#: EX_CONFIG from sysexits.h. ``runner.errors`` defines the same exit code, but an old Python cannot import that module.
EXIT_CONFIG = 78


def _refuse(problem: str) -> None:
    sys.stderr.write(f"{problem}\n")
    sys.exit(EXIT_CONFIG)


def start() -> None:
    """Run the command line, and exit."""
    # Commands that are printed later must work even if the current folder has changed by then.
    sys.argv[0] = os.path.abspath(sys.argv[0])
    problem = prerequisite.old_python()
    if problem is not None:
        _refuse(problem)
    try:
        from runner.cli.main import main

        # click prints this name in usage errors.
        main(prog_name=invocation())
    except ImportError as error:
        problem = prerequisite.missing_package(error)
        if problem is None:
            raise
        _refuse(problem)


if __name__ == "__main__":
    start()
