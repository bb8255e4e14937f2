"""``python -m tests.words``: print each habit with its line and with the allowed words; exit with 1 if there is one."""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.words.allowance import Allowance, WrongAllowance, load
from tests.words.habit import RULES, Rule, hits
from tests.words.prose import files, prose_of
from tests.words.sentence import Sentence

ROOT = Path(__file__).parent.parent.parent
#: A rule, the sentence or name that breaks it, and the part that was found.
Finding = tuple[Rule, Sentence, str]


def in_file(root: Path, name: str) -> list[tuple[str, Sentence, str]]:
    """Return the findings of one file, with the names of their rules."""
    return [(rule.name, sentence, text) for sentence in prose_of(root, name) for rule, text in hits(sentence)]


def check(root: Path, allowances: list[Allowance]) -> tuple[list[Finding], list[Allowance]]:
    """Return the findings in the tree that no exception covers, and the exceptions that cover none."""
    names, rules = files(root), {rule.name: rule for rule in RULES}
    found: list[Finding] = []
    used: set[Allowance] = set()
    with ProcessPoolExecutor() as pool:
        for part in pool.map(partial(in_file, root), names, chunksize=16):
            for rule, sentence, text in part:
                covering = [one for one in allowances if one.covers(rule, sentence)]
                used.update(covering)
                if not covering:
                    found.append((rules[rule], sentence, text))
    return found, [one for one in allowances if one not in used]


def report(finding: Finding) -> str:
    """Return the line for one finding."""
    rule, sentence, text = finding
    context = "" if sentence.kind == "name" or text == sentence.text else f" in {shortened(sentence.text)!r}"
    return f"{sentence.file}:{sentence.line}: {rule.name}: {text}{context}; allowed: {rule.allowed}"


def shortened(text: str, most: int = 110) -> str:
    """Return the beginning of a text on one line."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


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
        found, unused = check(root, load())
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
