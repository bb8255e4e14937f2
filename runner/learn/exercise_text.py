"""The text of an exercise, wrapped for a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from runner.invocation import invocation
from runner.learn.exercise import README, Exercise

_ITEM = re.compile(r"(?:- |\d+\. )")
#: The heading of the part that only a terminal shows. Its system would take the broker and the port of the system to
#: which the page belongs.
TERMINAL_PART = "## In other terminals"
#: The program at the beginning of a command in a sample.
_COMMAND = re.compile(r"^( {4,})fastcommerce(?= )", re.MULTILINE)


def exercise_text(exercise: Exercise, width: int) -> str:
    """Return the text of an exercise in lines of at most ``width`` characters, except for samples.

    See ``exercise_source`` for the commands in samples.
    """
    return "\n".join(_wrapped(exercise_source(exercise), width)).rstrip()


def exercise_source(exercise: Exercise) -> str:
    """Return the text of an exercise as Markdown.

    A command in a sample begins with the program as this process was started, so that the learner can copy it.
    """
    text = (exercise.folder / README).read_text("utf-8").strip()
    return _COMMAND.sub(lambda match: f"{match[1]}{invocation()}", text)


def page_source(exercise: Exercise) -> str:
    """Return the text of an exercise as Markdown, without the part that starts another system."""
    return exercise_source(exercise).partition(f"\n{TERMINAL_PART}\n")[0].rstrip()


def task_text(exercise: Exercise, width: int) -> str:
    """Return the list of the tasks."""
    tasks = [
        textwrap.fill(task.title, width, initial_indent=f"  {number}. ", subsequent_indent="     ")
        for number, task in enumerate(exercise.file.tasks, 1)
    ]
    return "\n".join(["Tasks:", *tasks])


def _wrapped(text: str, width: int) -> Iterator[str]:
    """Yield wrapped lines of Markdown: paragraphs and list items. Indented samples, headings and tables are kept."""
    paragraph: list[str] = []
    is_sample = False
    for line in [*text.splitlines(), ""]:
        is_fence = line.startswith("```")
        is_kept = is_sample or is_fence or not line or line.startswith(("    ", "#", "|"))
        if paragraph and (is_kept or _ITEM.match(line)):
            joined = " ".join(one.strip() for one in paragraph)
            item = _ITEM.match(joined)
            yield from textwrap.wrap(
                joined, width, subsequent_indent=" " * len(item[0]) if item else "", break_long_words=False,
                break_on_hyphens=False,
            )  # fmt: skip
            paragraph = []
        is_sample ^= is_fence
        if is_kept:
            yield line
        else:
            paragraph.append(line)
