"""The command ``make test-matrix``: the suite on other versions of RabbitMQ and Python, and on fresh systems."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from runner.errors import EXIT_TERMINATED
from tests.installation import VARIABLE
from tests.matrix.debian import Debian, Unavailable, cache_folder
from tests.matrix.newcomer import reach_202
from tests.running import ROOT

#: Debian 12 (bookworm) has RabbitMQ 3.10 and Python 3.11, Debian 13 (trixie) 4.0 and 3.13, and testing 4.3 and 3.14.
BROKERS = ("trixie", "testing")
FRESH = ("bookworm", "trixie", "testing")
#: Seconds for one whole suite. On two idle cores it takes less than 10 minutes.
SUITE_TIMEOUT = 3600


@dataclass(frozen=True)
class Row:
    """One row of the matrix."""

    name: str
    what: str
    run: Callable[[], bool]


def say(words: str) -> None:
    """Print a line of progress."""
    print(f"matrix: {words}", flush=True)


def release(suite: str) -> Debian:
    """Return the folder of a fresh release."""
    found = Debian(cache_folder() / suite)
    found.make(suite, say)
    return found


def release_with_broker(suite: str) -> Debian:
    """Return the folder of a release with RabbitMQ and the packages with which its Python can run the suite."""
    found = Debian(cache_folder() / f"{suite}-rabbitmq")
    if not found.is_made:
        found.make_from(release(suite), ["rabbitmq-server", "postgresql", "chromium", "python3-venv", "procps"], say)
    return found


def suite_on_broker(suite: str) -> bool:
    """Run integration and acceptance tests with this Python on the release's RabbitMQ."""
    environment = os.environ | {VARIABLE: str(release_with_broker(suite).folder)}
    tests = ["tests/integration", "tests/acceptance"]
    command = [sys.executable, "-m", "pytest", "-n", "4", "--dist", "loadgroup", "-q", *tests]
    return subprocess.run(command, cwd=ROOT, env=environment, timeout=SUITE_TIMEOUT, check=False).returncode == 0


def suite_in_release(suite: str) -> bool:
    """Run ``make test`` in the release, with its Python and its RabbitMQ, in a clone of this checkout."""
    with release_with_broker(suite).view(ROOT) as view:
        view.run("git", "clone", "-q", "/source", "/clone")
        command = view.command("make", "-C", "/clone", "test")
        return subprocess.run(command, timeout=SUITE_TIMEOUT, check=False).returncode == 0


def first_202(suite: str, user: str) -> bool:
    """Follow the README on a fresh release until the first 202."""
    with release(suite).view(ROOT) as view:
        seconds = reach_202(view, user)
    say(f"run-{suite}-{user}: 202 after {seconds:.0f} s")
    return True


def rows() -> list[Row]:
    """Return all rows, in order."""
    return [
        *(
            Row(f"broker-{suite}", f"this Python on the RabbitMQ of Debian {suite}", partial(suite_on_broker, suite))
            for suite in BROKERS
        ),
        *(
            Row(f"python-{suite}", f"Python and RabbitMQ of Debian {suite}", partial(suite_in_release, suite))
            for suite in FRESH
        ),
        *(
            Row(f"run-{suite}-{user}", f"make run on a fresh Debian {suite}", partial(first_202, suite, user))
            for suite in FRESH
            for user in ("root", "student")
        ),
    ]


def main() -> int:
    """Run the named rows, or all; print the result of each."""
    parser = argparse.ArgumentParser(prog="make test-matrix ARGS=…", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"one of {', '.join(one.name for one in rows())}")
    wanted = parser.parse_args().rows
    known = {one.name: one for one in rows()}
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"unknown row {unknown[0]!r}; allowed: {', '.join(known)}")
    # Raise an exception, so that the views are removed after a signal too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    outcomes = []
    for row in (known[name] for name in wanted) if wanted else known.values():
        say(f"{row.name}: {row.what}")
        started = time.monotonic()
        try:
            word = "passed" if row.run() else "FAILED"
        except (AssertionError, Unavailable, subprocess.TimeoutExpired) as error:
            say(f"{row.name}: {error}")
            word = "FAILED"
        outcomes.append((row.name, word, time.monotonic() - started))
    for name, word, seconds in outcomes:
        print(f"{name:<24} {word}  {seconds:6.0f} s")
    return 0 if all(word == "passed" for _, word, _ in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
