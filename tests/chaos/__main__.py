"""The command ``python -m tests.chaos``: a run with injected faults, its report and its chart."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests import inheritance
from tests.chaos.chart import chart
from tests.chaos.disk import enter
from tests.chaos.plan import Planned, draw_faults, node_faults
from tests.chaos.report import Outcome, as_json, as_text
from tests.chaos.rig import Rig
from tests.chaos.run import Run
from tests.installation import use_installation
from tests.reaper import Reaper
from tests.running import ROOT

#: Seconds between two killed nodes, so that the first node is running again.
NODE_EVERY = 20.0
EXIT_INTERRUPTED = 130


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"out of range, {text!r}; allowed: more than 0")
    return value


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Post orders at a steady rate to the shipped services on a broker of their own, inject random"
        " faults, and check that every order answered 202 was charged and reported once. Exit with 1 otherwise.",
    )
    parser.add_argument("--seconds", type=_positive, help="length of the run in seconds (600; with --cluster 180)")
    parser.add_argument("--rate", type=_positive, default=50.0, help="orders per second (50)")
    parser.add_argument("--every", type=_positive, default=3.0, help="seconds between two faults (3)")
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--cluster", action="store_true", help="use three nodes, and kill one of them every 20 s")
    parser.add_argument("--seed", type=int, help="repeat the faults and amounts of the run with this seed")
    parser.add_argument("--output", type=Path, help="folder for report.txt, report.json and chart.svg (var/chaos/…)")
    return parser.parse_args()


def main() -> int:
    """Run once. Return 0 if nothing is wrong."""
    given = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    has_disk = enter()
    inheritance.reset()
    server = use_installation()
    print(f"rabbitmq: {'none' if server is None else server.version}")
    # Kills all processes of a run if this process is killed.
    Reaper()
    given.seed = random.randrange(10**6) if given.seed is None else given.seed
    given.seconds = given.seconds or (180.0 if given.cluster else 600.0)
    faults = (
        node_faults(given.seconds, NODE_EVERY) if given.cluster else draw_faults(given.seed, given.seconds, given.every)
    )
    if not has_disk:
        faults = [one for one in faults if one.kind != "store full"]
        print("this system cannot mount a disk, so the store is never full")
    about = f"{given.rate:g} orders/s, {given.store}{', three nodes' if given.cluster else ''}"
    print(f"seed {given.seed}: {len(faults)} faults in {given.seconds:g} s, {about}", flush=True)
    output = given.output or ROOT / "var" / "chaos" / f"{time.strftime('%Y%m%d-%H%M%S')}-{given.seed}"
    folder = Path(tempfile.mkdtemp(prefix="fastcommerce-chaos-"))
    # PostgreSQL runs as another user if this process is root, and must reach its own files in the folder.
    folder.chmod(0o711)
    try:
        outcome = _run(given, faults, folder, output)
    except KeyboardInterrupt:
        print("\ninterrupted: all processes are stopped, and nothing was checked", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        return EXIT_INTERRUPTED
    print(as_text(outcome))
    print(f"report and chart: {output}")
    if outcome.holds:
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    again = f"--seed {given.seed} --seconds {given.seconds:g} --rate {given.rate:g} --every {given.every:g}"
    print(f"repeat with: python -m tests.chaos {again} --store {given.store}{' --cluster' if given.cluster else ''}")
    print(f"logs and all other files of the run: {folder}")
    return 1


def _run(given: argparse.Namespace, faults: list[Planned], folder: Path, output: Path) -> Outcome:
    database = f"three nodes, {given.store}" if given.cluster else given.store
    outcome = Outcome(given.seed, database, given.seconds, given.rate)
    rig = run = None
    try:
        rig = Rig(folder, given.store, is_cluster=given.cluster)
        run = Run(rig, outcome, faults)
        run.go(_progress())
    except Exception as error:  # the report contains the error and the results so far
        outcome.problems.append(f"the run stopped early, {type(error).__name__}: {error}")
    finally:
        if rig is not None:
            rig.close()
    if sys.stderr.isatty():
        print(file=sys.stderr)
    output.mkdir(parents=True, exist_ok=True)
    (output / "report.json").write_text(json.dumps(as_json(outcome), indent=1) + "\n")
    (output / "report.txt").write_text(as_text(outcome) + "\n")
    if run is not None and len(run.samples) > 1:
        marks = [(one.at - run.began, one.planned.kind, one.took) for one in outcome.faults if not one.missed]
        title = f"{given.rate:g} orders/s for {given.seconds:g} s, {len(marks)} faults, seed {given.seed}, {database}"
        (output / "chart.svg").write_text(chart(run.samples, marks, title))
    if not outcome.holds and (folder / "runner.log").exists():
        shutil.copy(folder / "runner.log", output)
    return outcome


def _progress() -> Callable[[str], None]:
    """Return a function that shows progress: on a terminal in one changing line, otherwise in a line every 10 s."""
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
