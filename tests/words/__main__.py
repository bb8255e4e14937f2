"""``python -m tests.words``: print each habit with its line and with the allowed words; exit with 1 if there is one."""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.words.allowance import WrongAllowance, load
from tests.words.finding import Finding, check, report
from tests.words.habit import RULES

ROOT = Path(__file__).parent.parent.parent


def statistics(found: list[Finding]) -> str:
    """Return a table of the number of findings for each room and rule."""
    names = [rule.name for rule in RULES]
    count = Counter((sentence.room, rule.name) for rule, sentence, _ in found)
    rooms = sorted({room for room, _ in count})
    rows = [["room", *names, "all"]]
    rows += [[room, *(str(count[room, name]) for name in names)] for room in rooms]
    rows.append(["all", *(str(sum(count[room, name] for room in rooms)) for name in names)])
    for row in rows[1:]:
        row.append(str(sum(map(int, row[1:]))))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    )


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Check the tree and print the findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.words", description=__doc__)
    parser.add_argument("places", nargs="*", metavar="PLACE", help="only files whose path begins so")
    parser.add_argument(
        "--rule", action="append", choices=[rule.name for rule in RULES], help="only this rule; repeatable"
    )
    parser.add_argument(
        "--stat", action="store_true", help="print the number of findings for each room and rule instead"
    )
    parser.add_argument("--sample", type=int, metavar="N", help="print N findings that are chosen at random")
    chosen = parser.parse_args(arguments)
    try:
        # About 4 s of processor time.
        with ProcessPoolExecutor() as pool:
            found, unused = check(root, load(), partial(pool.map, chunksize=16))
    except WrongAllowance as error:
        print(error)
        return 1
    places = tuple(chosen.places) or ("",)
    shown = [one for one in found if one[1].file.startswith(places) and (not chosen.rule or one[0].name in chosen.rule)]
    if chosen.stat:
        print(statistics(shown))
        return 0
    listed = shown if chosen.sample is None else random.sample(shown, min(chosen.sample, len(shown)))
    for finding in listed:
        print(report(finding))
    for one in unused:
        print(f"allowed.yaml: no sentence needs the exception {one.text!r} of rule {one.rule!r}; remove it")
    if shown or unused:
        print(f"{len(shown)} findings, {len(unused)} unused exceptions")
    return 1 if shown or unused else 0


if __name__ == "__main__":
    sys.exit(main())
