"""Measure the product and its peers, and print a table of ratios.

usage: python -m bench [--quick] [--only NAME ...] [--runs N] [--list] [--output DIR]

Each subject is a module of this package with ``NAME``, ``ABOUT`` and ``measure(ground, runs, quick)``, which yields
figures. All subjects share one private broker, which this program starts. Results are written to ``latest.json`` and
``latest.svg``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import bench
from bench.chart import chart
from bench.figure import Figure
from bench.ground import Ground, say
from bench.table import table

#: The results of a whole run, which the documentation shows, and those of any other run.
RESULTS = Path(__file__).parent / "results"
OTHER_RESULTS = Path(__file__).parent.parent / "var" / "bench"


class Subject(Protocol):
    """The interface of a module that measures a subject."""

    NAME: str
    ABOUT: str

    def measure(self, ground: Ground, runs: int, quick: bool) -> Iterator[Figure]:
        """Yield figures, each the median of ``runs`` runs in which the product and its peers take turns."""


def subjects() -> dict[str, Subject]:
    """Return all subjects by name."""
    modules = [
        importlib.import_module(f"bench.{module.name}")
        for module in pkgutil.iter_modules(bench.__path__)
        if module.name != "__main__"
    ]
    return {module.NAME: module for module in modules if hasattr(module, "NAME")}


def main() -> int:
    """Measure the chosen subjects. Return 1 if a subject could not be measured."""
    known = subjects()
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="make fewer and smaller runs, to check that everything works"
    )
    names = ", ".join(sorted(known))
    parser.add_argument(
        "--only", nargs="+", choices=sorted(known), metavar="NAME", help=f"only these subjects: {names}"
    )
    parser.add_argument("--runs", type=_count, help="runs of each measurement (default 5, with --quick 1)")
    parser.add_argument("--list", action="store_true", help="list the subjects")
    parser.add_argument("--output", type=Path, help="the folder for latest.json and latest.svg")
    options = parser.parse_args()
    if options.list:
        sys.stdout.writelines(f"{name:<12} {subject.ABOUT}\n" for name, subject in known.items())
        return 0
    # Stop the broker and the product too if this program gets SIGTERM, as from timeout(1).
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    runs = options.runs or (1 if options.quick else 5)
    is_whole = not options.only and not options.quick and runs >= 5
    output = options.output or (RESULTS if is_whole else OTHER_RESULTS)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output: cannot create the folder, {error}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        ground = Ground(Path(name))
        try:
            where = (
                f"RabbitMQ {ground.version()}, Python {platform.python_version()}, {os.cpu_count()} cores shared with"
                f" the broker; {f'medians of {runs} runs' if runs > 1 else 'one run'}"
                + (", quick" if options.quick else "")
            )
            say(f"{where}; the broker is up after {time.monotonic() - began:.0f} s")
            figures, failed = measure(ground, [known[one] for one in options.only or known], runs, options.quick)
        finally:
            ground.close()
    (output / "latest.json").write_text(json.dumps([one.as_json() for one in figures], indent=1) + "\n")
    (output / "latest.svg").write_text(chart(figures, "FastCommerce beside its peers", where))
    say(f"took {(time.monotonic() - began) / 60:.1f} min; results in {output}")
    sys.stdout.write(f"{where}\n{table(figures)}")
    if not is_whole:
        sys.stdout.write("The goals apply to a whole run on a machine that does nothing else.\n")
    sys.stdout.writelines(f"not measured: {one}\n" for one in failed)
    return 1 if failed else 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is too few; allowed: 1 or more")
    return number


def measure(ground: Ground, chosen: list[Subject], runs: int, quick: bool) -> tuple[list[Figure], list[str]]:
    """Return figures, and the errors of subjects that failed. Ctrl-C returns the figures that are complete."""
    figures: list[Figure] = []
    failed: list[str] = []
    for subject in chosen:
        began = time.monotonic()
        say(f"{subject.NAME}: {subject.ABOUT}")
        try:
            for figure in subject.measure(ground, runs, quick):
                figures.append(figure)
                say("    " + table([figure]).splitlines()[1])
        except KeyboardInterrupt:
            return figures, [*failed, f"{subject.NAME} and the subjects after it: interrupted"]
        except Exception as error:  # noqa: BLE001 - reported; the other subjects can still be measured
            traceback.print_exc()
            failed.append(f"{subject.NAME}: {type(error).__name__}: {error}".partition("\n")[0])
        say(f"{subject.NAME}: took {time.monotonic() - began:.0f} s")
    return figures, failed


if __name__ == "__main__":
    sys.exit(main())
