"""The dialogue with a learner: wrapped text, questions, and typed lines."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import textwrap

import click

from runner.learn.exercise import Question

#: The lowercase letters of the choices.
LETTERS = "abcdef"


class Quit(Exception):
    """The learner leaves the watch mode."""


class Dialogue:
    """A dialogue on standard input and output."""

    def __init__(self, width: int, gap: str) -> None:
        """``width`` is the maximum length of a line, and ``gap`` is printed before each part."""
        self.width, self.gap = width, gap
        #: The typed bytes that are not handled yet.
        self._typed = b""

    def part(self, text: str) -> None:
        """Print a text as a new part."""
        click.echo(self.gap, nl=False)
        self.print(text)

    def print(self, text: str, hang: int = 0) -> None:
        """Print a text, with each of its lines wrapped. ``hang`` is the indentation of further lines."""
        for line in text.split("\n"):
            click.echo(
                textwrap.fill(
                    line, self.width, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False
                )
            )

    def ask(self, question: Question) -> str | None:
        """Ask a question. Return the chosen answer, or None if the learner skips it. Raises Quit."""
        self.print(question.ask)
        for letter, choice in zip(LETTERS, question.choices, strict=False):
            self.print(f"  {letter}) {choice}", hang=5)
        last = LETTERS[len(question.choices) - 1]
        while True:
            click.echo(f"your answer (a to {last}, Enter skips): ", nl=False)
            sys.stdout.flush()
            answer = self.read_line()
            if not answer:
                return None
            place = LETTERS.find(answer.lower()) if len(answer) == 1 else -1
            if 0 <= place < len(question.choices):
                return question.choices[place]
            click.echo(f"type a key from a to {last}")

    def wait(self, seconds: float) -> bool:
        """Return True if the learner has typed something, after at most ``seconds``."""
        readable, _, _ = select.select([sys.stdin], [], [], 0 if self._typed else seconds)
        return bool(readable or self._typed)

    def read_line(self) -> str:
        """Return the next typed line. Raises Quit at the end of the input."""
        # A buffered reader would read further lines, which select(2) would then not report.
        while b"\n" not in self._typed:
            data = os.read(sys.stdin.fileno(), 4096)
            if not data:
                raise Quit
            self._typed += data
        line, _, self._typed = self._typed.partition(b"\n")
        return line.decode("utf-8", "replace").strip()

    def discard(self) -> None:
        """Discard what the learner typed while no question was on the screen. Input from a pipe is kept."""
        if sys.stdin.isatty():
            self._typed = b""
            with contextlib.suppress(termios.error):
                termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
