"""The command ``python -m tests.simulation``: ``--seeds 1-3000`` searches for a violation, ``--seed 17`` replays it."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation import Violation, run


def _range(parser: argparse.ArgumentParser, text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        parser.error(f"--seeds: not a range, {text!r}; allowed: the first and the last seed, such as 1-3000")
    return int(first), int(last)


def main() -> int:
    """Run the seeds. Return the exit code: 1 if an invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seeds", metavar="FIRST-LAST", help="run these seeds until one of them fails")
    which.add_argument("--seed", type=int, help="run this seed")
    parser.add_argument("--history", action="store_true", help="print the history of the run")
    parser.add_argument("--windows", action="store_true", help="print the number of times that each window was hit")
    options = parser.parse_args()
    first, last = (options.seed, options.seed) if options.seeds is None else _range(parser, options.seeds)
    began, windows, is_terminal = time.monotonic(), Counter[str](), sys.stderr.isatty()
    for seed in range(first, last + 1):
        if is_terminal and seed % 20 == 0:
            print(f"\rseed {seed} of {last}", end="", file=sys.stderr)
        try:
            report = run(seed)
        except Violation as violation:
            print("\n".join(violation.history) if options.history else f"{violation}")
            return 1
        except BaseException:
            print(f"seed {seed} failed with an unexpected error")
            raise
        windows += report.windows
        if options.history:
            print("\n".join(report.history))
    if options.windows:
        print("\n".join(f"{count:8} {window}" for window, count in sorted(windows.items())))
    seconds = time.monotonic() - began
    count = last - first + 1
    print(f"{count} seed{'' if count == 1 else 's'} in {seconds:.1f} s: no violation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
