"""``python -m tests.chaos``: a run under faults, its report and its chart."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.chart import chart
from tests.chaos.disk import enter
from tests.chaos.plan import draw_faults, node_faults
from tests.chaos.report import Outcome, as_json, as_text
from tests.chaos.rig import Rig
from tests.chaos.run import Run
from tests.running import ROOT

#: Seconds between two nodes that are killed, so that the one before is back.
NODE_EVERY = 20.0


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Post orders at a steady rate to the shipped services on a broker of their own, inject faults at"
        " random, and check that every order answered 202 is paid and told of once. Exits with 1 where it is not.",
    )
    parser.add_argument("--seconds", type=float, help="for how long (600; with --cluster 180)")
    parser.add_argument("--rate", type=float, default=50.0, help="orders a second (50)")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two faults (3)")
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--cluster", action="store_true", help="three nodes, of which one is killed every 20 s")
    parser.add_argument("--seed", type=int, help="draws the same faults again")
    parser.add_argument("--output", type=Path, help="a folder for report.txt, report.json, chart.svg (var/chaos/…)")
    return parser.parse_args()


def main() -> int:
    """Do a run; returns 0 where everything held."""
    given = arguments()
    without = () if enter() else ("store full",)
    seed = random.randrange(10**6) if given.seed is None else given.seed
    seconds = given.seconds or (180.0 if given.cluster else 600.0)
    faults = node_faults(seconds, NODE_EVERY) if given.cluster else draw_faults(seed, seconds, given.every, without)
    print(f"seed {seed}: {len(faults)} faults in {seconds:g} s, {given.rate:g} orders/s, {given.store}", flush=True)
    if without:
        print("no disk can be mounted here, so that the store is never full")
    output = given.output or ROOT / "var" / "chaos" / f"{time.strftime('%Y%m%d-%H%M%S')}-{seed}"
    output.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="fastcommerce-chaos-"))
    # PostgreSQL, which root runs as another user, has to get to what is its own in there.
    folder.chmod(0o711)
    outcome = Outcome(seed, f"three nodes, {given.store}" if given.cluster else given.store, seconds, given.rate)
    rig = Rig(folder, given.store, is_cluster=given.cluster)
    run = Run(rig, outcome, faults)
    try:
        run.go(_sayer())
    except AssertionError as error:
        outcome.problems.append(str(error))
    finally:
        rig.close()
    if sys.stderr.isatty():
        print(file=sys.stderr)
    marks = [(one.at - run.began, one.planned.kind, one.took) for one in outcome.faults if not one.missed]
    title = f"{outcome.rate:g} orders/s for {seconds:g} s, {len(marks)} faults, seed {seed}, {outcome.database}"
    (output / "chart.svg").write_text(chart(run.samples, marks, title))
    (output / "report.json").write_text(json.dumps(as_json(outcome), indent=1) + "\n")
    (output / "report.txt").write_text(as_text(outcome) + "\n")
    print(as_text(outcome))
    print(f"report and chart: {output}")
    if outcome.holds:
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    shutil.copy(rig.output, output / "runner.log")
    again = f"--seed {seed} --seconds {seconds:g} --rate {given.rate:g} --every {given.every:g} --store {given.store}"
    print(f"again: python -m tests.chaos {again}{' --cluster' if given.cluster else ''}")
    print(f"what was logged, and all else of the run: {folder}")
    return 1


def _sayer() -> Callable[[str], None]:
    """Progress: one line that changes on a terminal, and elsewhere a line now and then."""
    last = 0.0

    def say(text: str) -> None:
        nonlocal last
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        elif time.monotonic() - last >= 10.0:
            last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    return say


if __name__ == "__main__":
    sys.exit(main())
