"""The check of words finds each habit, accepts the replacements, and reports exceptions without a use."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.words.allowance import Allowance, WrongAllowance, load
from tests.words.finding import check, report
from tests.words.habit import RULES, hits
from tests.words.prose import prose_of
from tests.words.sentence import Sentence

MOST_EXCEPTIONS = 40
#: A rule, the kind of a text, a text with the habit, and the same text without it.
CASES = [
    ("opening", "opening", "Whether the queue is empty.", "Return True if the queue is empty."),
    ("opening", "opening", "What a worker prints.", "The lines that a worker prints."),
    ("opening", "opening", "Where the e-mail goes.", "The address of the e-mail."),
    ("clause", "docs", "What crashes is restarted.", "Crashed workers are restarted."),
    ("clause", "comment", "Whoever waits must know.", "Why does it wait? Because RabbitMQ counts late."),
    ("pronoun", "comment", "Those that stay are read again.", "The messages that stay are read again."),
    ("pronoun", "docs", "The API sends another one.", "The API sends another event, or one of the others."),
    ("where", "docstring", "Raises OSError where that fails.", "Raises OSError if that fails."),
    ("where", "docs", "Where no broker answers, one starts.", "A handler sees where the message was published."),
    ("where", "comment", "None where it has no queue.", "Messages return to the place where it was."),
    ("tell", "message", "queue 'a' is told of", "queue 'a' is reported"),
    ("people", "docs", "Nobody consumes the queue.", "The queue has no consumer."),
    ("old word", "docs", "The disk is mended and read anew.", "The disk is fixed and read again."),
    ("old word", "docs", "A worker ends for good.", "The limit is 100, for good reason."),
    ("so many", "docs", "It stops after so many messages.", "It stops as soon as N messages wait."),
    ("take", "message", "the broker takes no messages", "the broker accepts no messages"),
    ("away", "message", "the broker is away", "the broker is unreachable right away"),
    ("long", "docs", f"One {'word ' * 30}.", f"One {'word ' * 29}."),
    ("long", "docs", f"One {'word ' * 30}.", f"One `{'word ' * 30}`."),
    ("semicolons", "docs", "One; two; three.", "One; two `;`."),
    ("glossary", "docs", "The letter is parked.", "The dead letter is dead-lettered."),
    ("glossary", "docs", "At the next try it works.", "A name has letters and digits, at the next attempt."),
    ("name", "name", "ParkedLetters", "DeadLetters"),
    ("name", "name", "story_of", "history_of"),
    ("test name", "name", "test_a_message_is_parked", "test_a_message_is_dead_lettered"),
]


@pytest.mark.parametrize(("rule", "kind", "bad", "good"), CASES)
def test_a_habit_is_found_and_its_replacement_is_accepted(rule: str, kind: str, bad: str, good: str) -> None:
    assert rule in [found.name for found, _ in hits(Sentence("a.py", 1, kind, bad))]
    assert [found.name for found, _ in hits(Sentence("a.py", 1, kind, good))] == []


def test_every_rule_has_a_case() -> None:
    assert {rule for rule, *_ in CASES} == {rule.name for rule in RULES}


SOURCE = '''"""First sentence. Second one,
which goes on.

- an item
"""

#: An attribute. More of it.
A = 1  # a remark


class Parked:
    def go(self, name):
        """Go."""
        raise ValueError(f"no such queue here: {name}")
        # A comment
        # on two lines.
'''


def test_python_is_read_by_sentences_with_lines_and_kinds(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text(SOURCE)
    found = [(one.line, one.kind, one.text) for one in prose_of(tmp_path, "first.py")]
    assert found == [
        (1, "name", "first"),
        (1, "opening", "First sentence."),
        (1, "docstring", "Second one, which goes on."),
        (4, "docstring", "an item"),
        (7, "opening", "An attribute."),
        (7, "comment", "More of it."),
        (8, "comment", "a remark"),
        (11, "name", "Parked"),
        (12, "name", "go"),
        (13, "opening", "Go."),
        (14, "message", "no such queue here: {…}"),
        (15, "comment", "A comment on two lines."),
    ]


def test_code_of_a_page_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        "# Title\n\nText with `code`.\nMore.\n\n```sh\nnobody here\n```\n\n| a | b c |\n|---|---|\n"
    )
    found = [(one.line, one.kind, one.plain) for one in prose_of(tmp_path, "page.md")]
    assert found == [
        (1, "heading", "Title"),
        (3, "docs", "Text with CODE."),
        (4, "docs", "More."),
        (10, "cell", "a"),
        (10, "cell", "b c"),
    ]


def test_a_tree_is_checked_with_its_exceptions_and_an_unused_one_is_reported(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "a.md").write_text("The broker is away.\n")
    (tmp_path / "b.md").write_text("A store is away.\n")
    used = Allowance("away", "store", "a quotation", "b.*")
    unused = Allowance("away", "store", "a quotation", "a.*")
    found, left = check(tmp_path, [used, unused])
    assert [report(one) for one in found] == [
        "a.md:1: away: away in 'The broker is away.'; allowed: unreachable; removed; dropped"
    ]
    assert left == [unused]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- {rule: away, text: a}", "entry 1"),
        ("- {rule: away, text: a, reason: ''}", "a text for each key"),
        ("- {rule: none, text: a, reason: b}", "unknown rule 'none'"),
        ("- {rule: away, text: a, reason: b, why: c}", "and file"),
    ],
)
def test_an_exception_needs_a_rule_a_text_and_a_reason(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "allowed.yaml"
    file.write_text(text)
    with pytest.raises(WrongAllowance, match=reason):
        load(file)


def test_the_exceptions_are_few() -> None:
    assert len(load()) < MOST_EXCEPTIONS
