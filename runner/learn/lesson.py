"""The watch mode: one exercise after the other, with a check at each save."""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from runner.cli.terminal import has_colour, terminal_width
from runner.invocation import invocation
from runner.learn.checker import check_exercise
from runner.learn.classroom_broker import ClassroomBroker
from runner.learn.dialogue import Dialogue, Quit
from runner.learn.exercise import SOLUTION, Exercise, Question
from runner.learn.exercise_text import exercise_text, task_text
from runner.learn.last_result import fingerprint_of, hold_watch
from runner.learn.result_text import result_lines
from runner.learn.verdict import Verdict
from runner.learn.workspace import Workspace

#: Seconds between two looks at the learner's files, and seconds without a change after which a save is complete.
INTERVAL, SETTLE = 0.3, 0.2
#: The keys of the watch mode.
KEYS = (
    "Each save is checked. Or type one of these keys, and then Enter:\n"
    "h hint · s solution · r reset · l list · n next · q quit · only Enter: check again"
)


class Lesson:
    """The watch mode on a terminal."""

    def __init__(self, exercises: Sequence[Exercise], workspace: Workspace, *, is_large: bool) -> None:
        """``is_large`` is True for a projector: fewer words on a line, and blank lines between the parts."""
        self._exercises, self._workspace = exercises, workspace
        self.width = min(56 if is_large else 88, terminal_width() or 88)
        self._dialogue = Dialogue(self.width, "\n\n" if is_large else "\n")

    def run(self, first: Exercise) -> None:
        """Run until the learner leaves, or until every exercise is passed."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(hold_watch(self._workspace.folder))
            pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
            # RabbitMQ starts while the learner reads.
            broker = pool.submit(stack.enter_context, ClassroomBroker(self._workspace.classroom))
            with contextlib.suppress(Quit):
                self._ask_review(first)
                exercise: Exercise | None = first
                while exercise is not None:
                    self._one(exercise, broker)
                    exercise = self._after(exercise)
                self._dialogue.part("All exercises are done.")
            # The broker is closed by the stack, so it must have started.
            broker.result()

    def _after(self, exercise: Exercise) -> Exercise | None:
        later = [one for one in self._exercises if one.number > exercise.number]
        return next((one for one in later if self._workspace.progress.of(one).passed_at is None), None) or (
            self._workspace.following(self._exercises)
        )

    def _one(self, exercise: Exercise, broker: concurrent.futures.Future[ClassroomBroker]) -> None:
        folder = self._workspace.start(exercise)
        is_changed = fingerprint_of(folder) != fingerprint_of(exercise.starter)
        click.echo(self._dialogue.gap + exercise_text(exercise, self.width))
        # The tasks would reveal the answer.
        self.predict(exercise)
        click.echo(self._dialogue.gap + task_text(exercise, self.width))
        files = ", ".join(str(folder / one) for one in exercise.file.edit)
        self._dialogue.part(f"Edit {files}.\n{KEYS}")
        seen = fingerprint_of(folder)
        is_due = is_changed
        while True:
            if is_due and self.check(exercise, broker):
                self._leave(exercise)
                return
            is_due = False
            key = self._key(folder, seen)
            seen = fingerprint_of(folder)
            is_due = self._handle(key, exercise)

    def check(self, exercise: Exercise, broker: concurrent.futures.Future[ClassroomBroker]) -> bool:
        """Check the learner's files and print the result. Return True if the exercise is passed."""
        click.echo("checking ..." if broker.done() else "starting the classroom's RabbitMQ ...")
        started = time.monotonic()
        record = self._workspace.progress.of(exercise)
        folder = self._workspace.path(exercise)
        fingerprint = fingerprint_of(folder)
        result = check_exercise(exercise, folder, broker.result(), record.prediction or "")
        self._workspace.note(exercise, result, fingerprint)
        self._dialogue.part(f"{exercise.name}, checked in {time.monotonic() - started:.1f} s")
        for line in result_lines(result, width=self.width, colour=has_colour()):
            click.echo(line)
        self._dialogue.discard()
        if result.verdict is Verdict.PASS:
            self.explain(exercise)
        else:
            self._dialogue.part(KEYS)
        return result.verdict is Verdict.PASS

    def explain(self, exercise: Exercise) -> None:
        """Print the explanation, with the prediction beside the fact, and ask the review question."""
        record = self._workspace.progress.of(exercise)
        predict = exercise.file.predict
        self._dialogue.part(exercise.file.explain.strip())
        if record.prediction is not None:
            is_right = record.prediction == predict.answer
            fact = "That is what happened." if is_right else f"What happened: {predict.answer}."
            self._dialogue.part(f"You predicted: {record.prediction}. {fact}")
        if record.review is None:
            click.echo()
            answer = self._reviewed(exercise.file.review)
            with self._workspace.changed(exercise) as record:
                record.review = answer

    def _reviewed(self, question: Question) -> str | None:
        answer = self._dialogue.ask(question)
        if answer is not None:
            self._dialogue.print("Right." if answer == question.answer else f"The answer is: {question.answer}.")
        return answer

    def predict(self, exercise: Exercise) -> None:
        """Ask for the prediction, once."""
        if self._workspace.progress.of(exercise).prediction is None:
            self._dialogue.part("First a prediction. It is kept, but not graded.")
            answer = self._dialogue.ask(exercise.file.predict)
            with self._workspace.changed(exercise) as record:
                record.prediction = answer

    def text_of(self, exercise: Exercise) -> str:
        """Return the text and the tasks of an exercise."""
        return f"{exercise_text(exercise, self.width)}\n\n{task_text(exercise, self.width)}"

    def _ask_review(self, exercise: Exercise) -> None:
        """Ask the question of the previous exercise again, at the start of a session."""
        before = [one for one in self._exercises if one.number < exercise.number]
        passed = [one for one in before if self._workspace.progress.of(one).passed_at is not None]
        if not passed or self._workspace.progress.of(exercise).checks:
            return
        self._dialogue.part(f"Do you remember? A question about {passed[-1].file.title!r}:")
        self._reviewed(passed[-1].file.review)

    def _leave(self, exercise: Exercise) -> None:
        following = self._after(exercise)
        if following is not None:
            self._workspace.start(following)
        self._dialogue.part("Enter: next exercise · q and Enter: quit")
        while (answer := self._dialogue.read_line().lower()) not in ("", "n"):
            if answer == "q":
                raise Quit
            click.echo("type q and Enter to quit, or only Enter for the next exercise")

    def _key(self, folder: Path, seen: object) -> str:
        """Wait for a key or a save. Return the key, or ``check`` for a save and for Enter alone."""
        while True:
            if self._dialogue.wait(INTERVAL):
                return self._dialogue.read_line().lower() or "check"
            now = fingerprint_of(folder)
            if now != seen:
                time.sleep(SETTLE)
                if now == fingerprint_of(folder):
                    return "check"

    def _handle(self, key: str, exercise: Exercise) -> bool:
        """Do what a key means. Return True if the files must be checked."""
        actions: dict[str, Callable[[Exercise], None]] = {
            "h": self.hint, "s": self.solution, "r": self.reset, "l": lambda _: self.show_list(), "n": self._skip,
        }  # fmt: skip
        if key == "check":
            return True
        if key == "q":
            raise Quit
        action = actions.get(key[:1])
        if action is None:
            self._dialogue.print(KEYS)
        else:
            action(exercise)
        return False

    def _skip(self, exercise: Exercise) -> None:
        later = [one for one in self._exercises if one.number > exercise.number]
        if not later:
            click.echo("this is the last exercise")
            return
        self._workspace.start(later[0])
        click.echo(f"to continue: {invocation('learn')}")
        raise Quit

    def hint(self, exercise: Exercise) -> None:
        """Print the next hint."""
        hints = exercise.file.hints
        with self._workspace.changed(exercise) as record:
            number = min(record.hints, len(hints) - 1)
            record.hints = max(record.hints, number + 1)
        self._dialogue.print(f"hint {number + 1} of {len(hints)}: {hints[number]}")
        if number + 1 == len(hints) and record.checks:
            click.echo(f"the solution: {invocation('learn', 'solution')}")

    def solution(self, exercise: Exercise) -> None:
        """Print the solution, but only after a failed check."""
        record = self._workspace.progress.of(exercise)
        folder = exercise.folder / SOLUTION
        if not folder.is_dir():
            click.echo("these exercises come without solutions; ask your teacher")
        elif not record.checks:
            self._dialogue.print(f"the solution is shown after your first check: {invocation('learn', 'check')}")
        else:
            with self._workspace.changed(exercise) as record:
                record.has_seen_solution = True
            for path in sorted(one for one in folder.rglob("*") if one.is_file() and "__pycache__" not in one.parts):
                name = str(path.relative_to(folder))
                if exercise.may_edit(name):
                    click.echo(f"--- {name}\n{path.read_text('utf-8').rstrip()}")

    def reset(self, exercise: Exercise) -> None:
        """Restore the first files, and keep the learner's files."""
        old = self._workspace.reset(exercise)
        kept = "" if old is None else f"; your files are in {old}"
        self._dialogue.print(f"{self._workspace.path(exercise)}: the original files are restored{kept}")

    def show_list(self) -> None:
        """Print all exercises with the progress."""
        for one in self._exercises:
            record = self._workspace.progress.of(one)
            is_current = one.name == self._workspace.progress.current
            state = "done" if record.passed_at else f"{record.points} of {record.of}" if record.checks else ""
            click.echo(
                f"{'>' if is_current else ' '} {one.name:<28} {one.file.minutes:>3} min  {state:<8} {one.file.title}"
            )
