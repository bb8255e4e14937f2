"""``python -m tests.learning_page`` writes the generated parts of docs/learning.md and docs/teaching.md.

These are the table of the exercises, and the mistakes with their sentences. With ``--transcript``, the command also
walks through one exercise in a terminal, on a private RabbitMQ, and writes what the terminal shows.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from runner.learn.exercise import SOLUTION, Exercise
from runner.learn.proof import SENTENCE, wrong_folders
from tests.running import PRINTED, ROOT
from tests.shipped_exercises import EXERCISES
from tests.terminal import Terminal

LEARNING, TEACHING = ROOT / "docs" / "learning.md", ROOT / "docs" / "teaching.md"
#: The exercise of the transcript, and the wrong solution that it begins with.
WALKED, MISTAKE = "02-first-queue", "queue-name-as-key"
#: The width of the transcript in characters.
WIDTH = 88


def table() -> str:
    """Return the table of the exercises."""
    lines = ["| | exercise | minutes |", "|---|---|---|"]
    lines += [f"| {one.number} | {one.file.title} | {one.file.minutes} |" for one in EXERCISES]
    return "\n".join(lines)


def mistakes() -> str:
    """Return the mistakes of each exercise with their sentences."""
    parts = []
    for one in EXERCISES:
        lines = [f"### {one.number}. {one.file.title}", ""]
        for folder in wrong_folders(one):
            sentence = " ".join((folder / SENTENCE).read_text("utf-8").split())
            lines.append(f"- {folder.name.replace('-', ' ')}: “{sentence}”")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def replaced(page: Path, name: str, text: str) -> str:
    """Return a page with other text between the marks of a generated part."""
    found = page.read_text("utf-8")
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
    changed, count = re.subn(pattern, lambda match: f"{match[1]}\n{text}\n\n{match[2]}", found, flags=re.DOTALL)
    assert count == 1, f"{page.name} has no part {name}"
    return changed


def walked() -> Exercise:
    """Return the exercise of the transcript."""
    return next(one for one in EXERCISES if one.name == WALKED)


def transcript() -> str:
    """Walk through the exercise, and return what the terminal shows."""
    exercise = walked()
    with tempfile.TemporaryDirectory(prefix="fastcommerce-walk-") as name:
        folder = Path(name)
        shutil.copytree(exercise.folder, folder / "exercises" / exercise.name)
        command = [sys.executable, "-m", "runner", "learn"]
        terminal = Terminal(command, folder, WIDTH, FASTCOMMERCE_INVOCATION="fastcommerce", NO_COLOR="1")
        try:
            _walk(terminal, exercise, folder / "my-work" / exercise.name)
        finally:
            terminal.close()
    text = re.sub(r"\x1b\[[0-9;]*m", "", terminal.output).replace(f"{folder}/", "")
    text = re.sub(PRINTED, "fastcommerce", text)
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return "\n".join(["```", "$ fastcommerce learn", *lines, "```"])


def _walk(terminal: Terminal, exercise: Exercise, work: Path) -> None:
    choices = exercise.file.predict.choices
    terminal.wait_for("your answer")
    terminal.type("abcdef"[next(place for place, one in enumerate(choices) if one != exercise.file.predict.answer)])
    terminal.wait_for("only Enter")
    for folder in (exercise.folder / "wrong" / MISTAKE, exercise.folder / SOLUTION):
        for file in exercise.file.edit:
            if (folder / file).is_file():
                shutil.copy(folder / file, work / file)
        terminal.wait_for("checked in")
        terminal.wait_for("only Enter" if folder.name == MISTAKE else "your answer")
    terminal.type("abcdef"[exercise.file.review.choices.index(exercise.file.review.answer)])
    terminal.wait_for("Enter: quit")
    terminal.type("q")
    terminal.process.wait(30)
    terminal.wait_for("")


def main() -> None:
    """Write the generated parts."""
    LEARNING.write_text(replaced(LEARNING, "exercises", table()), "utf-8")
    TEACHING.write_text(replaced(TEACHING, "mistakes", mistakes()), "utf-8")
    if "--transcript" in sys.argv:
        TEACHING.write_text(replaced(TEACHING, "transcript", transcript()), "utf-8")


if __name__ == "__main__":
    main()
