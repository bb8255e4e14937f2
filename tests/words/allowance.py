"""The exceptions of the check: ``allowed.yaml`` beside this file, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import yaml

from tests.words.habit import RULES
from tests.words.sentence import Sentence

FILE = Path(__file__).with_name("allowed.yaml")
_KEYS = {"rule", "text", "reason"}


class WrongAllowance(Exception):
    """An entry of the file that cannot be used."""


@dataclass(frozen=True)
class Allowance:
    """A text that one rule accepts, in the files that match a pattern."""

    rule: str
    text: str
    reason: str
    file: str = "*"

    def covers(self, rule: str, sentence: Sentence) -> bool:
        """Return True if the exception is for this rule and this sentence."""
        return rule == self.rule and self.text in sentence.text and fnmatch(sentence.file, self.file)


def load(file: Path = FILE) -> list[Allowance]:
    """Read the exceptions. Raises WrongAllowance."""
    rules = {rule.name for rule in RULES}
    entries = yaml.safe_load(file.read_text("utf-8")) or []
    for number, one in enumerate(entries):
        where = f"{file.name}: entry {number + 1}"
        if not isinstance(one, dict) or not _KEYS <= set(one) <= _KEYS | {"file"}:
            raise WrongAllowance(f"{where}: {one!r}; allowed: the keys {', '.join(sorted(_KEYS))}, and file")
        if not all(isinstance(value, str) and value.strip() for value in one.values()):
            raise WrongAllowance(f"{where}: {one!r}; allowed: a text for each key")
        if one["rule"] not in rules:
            raise WrongAllowance(f"{where}: unknown rule {one['rule']!r}; allowed: {', '.join(sorted(rules))}")
    return [Allowance(**one) for one in entries]
