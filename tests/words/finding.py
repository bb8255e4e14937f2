"""The findings of the check: each habit that no exception covers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tests.words.allowance import Allowance
from tests.words.habit import RULES, Rule, hits
from tests.words.prose import files, prose_of
from tests.words.sentence import Sentence

#: A rule, the sentence or name that breaks it, and the part that was found.
Finding = tuple[Rule, Sentence, str]


def in_file(root: Path, name: str) -> list[tuple[str, Sentence, str]]:
    """Return the findings of one file, with the names of their rules."""
    return [(rule.name, sentence, text) for sentence in prose_of(root, name) for rule, text in hits(sentence)]


def check(
    root: Path, allowances: list[Allowance], apply: Callable[..., Iterable[list[tuple[str, Sentence, str]]]] = map
) -> tuple[list[Finding], list[Allowance]]:
    """Return the findings in the tree that no exception covers, and the exceptions that cover none.

    ``apply`` calls a function for each file, as ``map`` does.
    """
    names, rules = files(root), {rule.name: rule for rule in RULES}
    found: list[Finding] = []
    used: set[Allowance] = set()
    for part in apply(partial(in_file, root), names):
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
