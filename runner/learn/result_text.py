"""The result of a check as text for a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

import click

from runner.escape import escaped, one_line
from runner.learn.verdict import ExerciseResult, TaskResult, Verdict

_MARKS = {Verdict.PASS: ("✓", "green"), Verdict.FAIL: ("✗", "red"), Verdict.ERROR: ("!", "yellow")}
_LABEL = 10
_UNIT = re.compile(r"(\d) (ms|s)\b")


def result_lines(result: ExerciseResult, *, width: int, colour: bool) -> Iterator[str]:
    """Yield the lines about a result: a line for each task, and the details of the first task that has not passed."""
    for task in result.tasks:
        mark, name = _MARKS[task.verdict]
        points = f"{task.points} of {task.of} point{'' if task.of == 1 else 's'}"
        first, *rest = textwrap.wrap(f"{task.title} ({points})", width - 2, break_long_words=False)
        yield f"{_styled(mark, name, colour)} {first}"
        yield from (f"  {one}" for one in rest)
        if task.say and task.verdict is Verdict.PASS:
            yield from textwrap.wrap(task.say, width, initial_indent="  ", subsequent_indent="  ")
    problem = result.first_problem
    if problem is not None:
        yield ""
        yield from _details(problem, width, colour)


def _details(task: TaskResult, width: int, colour: bool) -> Iterator[str]:
    if task.verdict is Verdict.ERROR:
        yield from _labelled("error", task.saw, width)
        yield from _labelled("", "The check could not run. Your files are not the cause. Try again.", width)
        return
    for label, text in (("did", task.did), ("expected", task.expected)):
        if text:
            yield from _labelled(label, text, width)
    yield from _labelled("saw", task.saw, width)
    for line in task.history:
        yield from _labelled("", line, width)
    if task.say:
        yield ""
        yield from (_styled(line, "yellow", colour) for line in _labelled("", task.say, width))
    if task.look:
        yield ""
        yield from _labelled("look", task.look, width)
        if task.line:
            yield " " * _LABEL + "| " + one_line(task.line)
    for finding in task.findings:
        yield from _labelled("lint", finding, width)


def _labelled(label: str, text: str, width: int) -> Iterator[str]:
    """Yield wrapped lines behind a label. Lines that are already wrapped keep their breaks."""
    head = label.ljust(_LABEL)
    # The text may quote the files of another person, which must not control the terminal.
    for line in escaped(text).split("\n"):
        indent = " " * (len(line) - len(line.lstrip()))
        # A number and its unit stay on one line.
        joined = _UNIT.sub("\\1\u00a0\\2", line)
        wrapped = textwrap.wrap(
            joined, max(20, width - _LABEL), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        for part in wrapped or [""]:
            yield head + part.replace("\u00a0", " ")
            head = " " * _LABEL


def _styled(text: str, name: str, colour: bool) -> str:
    return click.style(text, fg=name) if colour else text
