"""``learn``: the commands of the classroom."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from runner.cli.terminal import has_colour
from runner.errors import EXIT_BROKER, EXIT_FAILURE, EXIT_OK, RunnerError
from runner.invocation import invocation
from runner.learn.checker import check_exercise
from runner.learn.classroom import Classroom, submission
from runner.learn.classroom_broker import ClassroomBroker
from runner.learn.dev_command import dev
from runner.learn.dialogue import LETTERS
from runner.learn.exercise import Exercise, Question
from runner.learn.last_result import fingerprint_of
from runner.learn.result_file import FORMATS, GRADERS
from runner.learn.result_text import result_lines
from runner.learn.teacher_commands import class_command, export_command
from runner.learn.verdict import ExerciseResult, TaskResult, Verdict
from runner.learn.workspace import CLASSROOM, FOLDER

_name = click.argument("name", metavar="[N]", required=False)


@click.group(invoke_without_command=True, short_help="Work through exercises that check themselves.")
@click.option("--large", is_flag=True, help="Use shorter lines and wider spacing, for a projector.")
@click.pass_context
def learn(context: click.Context, large: bool) -> None:
    """Work through exercises that check themselves.

    Without a command, shows the current exercise, asks for a prediction, and checks your files at each save. Your files
    are in my-work/. The checks use a private RabbitMQ, and never affect a running system.
    """
    if context.invoked_subcommand is None:
        room = Classroom(context.obj)
        room.lesson(is_large=large).run(room.exercise(None))


@learn.command("list", short_help="List the exercises and your progress.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def list_(project: Path, as_json: bool) -> None:
    """List the exercises and your progress."""
    room = Classroom(project)
    if not as_json:
        room.lesson().show_list()
        return
    found = [
        {
            "exercise": one.name, "title": one.file.title, "minutes": one.file.minutes, "level": one.file.level,
            **asdict(room.workspace.progress.of(one)),
        }
        for one in room.exercises
    ]  # fmt: skip
    click.echo(json.dumps({"current": room.workspace.progress.current, "exercises": found}, indent=2))


@learn.command(short_help="Make an exercise the current one, and show it.")
@click.argument("name", metavar="N")
@click.pass_obj
def start(project: Path, name: str) -> None:
    """Make an exercise the current one, and show it. N is the number or the name of the exercise."""
    room = Classroom(project)
    exercise = room.exercise(name)
    folder = room.workspace.start(exercise)
    click.echo(room.lesson().text_of(exercise))
    click.echo(f"\nyour files: {folder}\nto begin: {invocation('learn')}")


@learn.command("next", short_help="Go to the next exercise that is not done.")
@click.pass_obj
def next_(project: Path) -> None:
    """Go to the next exercise that is not done, and show it."""
    room = Classroom(project)
    current = room.exercise(None)
    later = [one for one in room.exercises if one.number > current.number]
    exercise = room.workspace.following(later) or room.workspace.following(room.exercises)
    if exercise is None:
        click.echo("all exercises are done")
        return
    folder = room.workspace.start(exercise)
    click.echo(room.lesson().text_of(exercise))
    click.echo(f"\nyour files: {folder}\nto begin: {invocation('learn')}")


@learn.command(short_help="Answer the question before the first check.")
@click.argument("name", metavar="N")
@click.argument("choice", metavar="CHOICE")
@click.pass_obj
def predict(project: Path, name: str, choice: str) -> None:
    """Answer the question before the first check of exercise N. CHOICE is one of its choices, such as b.

    The prediction is kept, but not graded.
    """
    room = Classroom(project)
    exercise = room.exercise(name)
    question = exercise.file.predict
    answer = _answer(question, choice)
    with room.workspace.changed(exercise) as record:
        record.prediction = answer
    click.echo(f"{question.ask}\nyour prediction: {answer}")


@learn.command(short_help="Answer the question after the last task.")
@click.argument("name", metavar="N")
@click.argument("choice", metavar="CHOICE")
@click.pass_obj
def review(project: Path, name: str, choice: str) -> None:
    """Answer the question after the last task of exercise N. CHOICE is one of its choices, such as b."""
    room = Classroom(project)
    exercise = room.exercise(name)
    if room.workspace.progress.of(exercise).passed_at is None:
        raise RunnerError(
            f"{exercise.name}: not done yet, so the question would reveal the answer; pass all tasks first"
        )
    question = exercise.file.review
    answer = _answer(question, choice)
    with room.workspace.changed(exercise) as record:
        record.review = answer
    click.echo(f"{question.ask}\n" + ("Right." if answer == question.answer else f"The answer is: {question.answer}."))


def _answer(question: Question, choice: str) -> str:
    choices = dict(zip(LETTERS, question.choices, strict=False))
    if choice.lower() not in choices:
        raise click.BadParameter(f"not a choice, {choice!r}; allowed: {', '.join(choices)}", param_hint="CHOICE")
    return choices[choice.lower()]


@learn.command(short_help="Show the next hint.")
@_name
@click.pass_obj
def hint(project: Path, name: str | None) -> None:
    """Show the next hint for the current exercise, or for exercise N."""
    room = Classroom(project)
    room.lesson().hint(room.exercise(name))


@learn.command(short_help="Show the solution, after a first check.")
@_name
@click.pass_obj
def solution(project: Path, name: str | None) -> None:
    """Show the solution of the current exercise, or of exercise N. The solution is shown only after a first check."""
    room = Classroom(project)
    room.lesson().solution(room.exercise(name))


@learn.command(short_help="Restore the original files of an exercise.")
@_name
@click.pass_obj
def reset(project: Path, name: str | None) -> None:
    """Restore the original files of the current exercise, or of exercise N. Your files are kept in my-work/.old/."""
    room = Classroom(project)
    room.lesson().reset(room.exercise(name))


@learn.command(short_help="Check your files once.")
@click.argument("names", metavar="[N]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Check every exercise.")
@click.option(
    "--format", "form", type=click.Choice(["text", *FORMATS]), default="text", show_default=True,
    help="json has the fields of Exercism's test runners.",
)  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the result to a file.")
@click.option(
    "--work", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The folder with the files to check, such as the folder of a student.  [default: my-work]",
)  # fmt: skip
@click.pass_obj
def check(
    project: Path, names: tuple[str, ...], every: bool, form: str, output: Path | None, work: Path | None
) -> None:
    """Check your files for the current exercise, or for exercises N.

    Exits with 0 if all tasks pass, with 1 if not, and with 75 if a check could not run. With --format gradescope or
    classroom50, exits with 0 even if a task fails.
    """
    if names and every:
        raise click.UsageError("--all and N cannot be used together")
    if output is not None and not output.absolute().parent.is_dir():
        raise RunnerError(f"{output}: the folder does not exist; allowed: a file in a folder that exists")
    room = Classroom(project, None if work is None else submission(work))
    chosen = room.exercises if every else [room.exercise(one) for one in names] or [room.exercise(None)]
    # The check of a submission changes nothing in it.
    results = _checked(room, chosen, project / FOLDER / CLASSROOM, keeps_progress=work is None)
    text = _shown(results, room) if form == "text" else FORMATS[form](results)
    if output is None:
        click.echo(text)
    else:
        try:
            output.write_text(text + "\n", "utf-8")
        except OSError as error:
            reason = f"cannot be written, {error.strerror}; allowed: a file in a folder that exists"
            raise RunnerError(f"{output}: {reason}") from None
    verdicts = {one.verdict for one in results}
    is_failed = Verdict.FAIL in verdicts and form not in GRADERS
    sys.exit(EXIT_BROKER if Verdict.ERROR in verdicts else EXIT_FAILURE if is_failed else EXIT_OK)


def _checked(
    room: Classroom, chosen: Sequence[Exercise], classroom: Path, *, keeps_progress: bool
) -> list[ExerciseResult]:
    results = []
    with ClassroomBroker(classroom) as broker:
        for exercise in chosen:
            folder = room.workspace.path(exercise)
            if not folder.is_dir():
                results.append(_not_started(exercise))
                continue
            prediction = (room.workspace.progress.of(exercise).prediction or "") if keeps_progress else ""
            fingerprint = fingerprint_of(folder)
            result = check_exercise(exercise, folder, broker, prediction)
            if keeps_progress:
                room.workspace.note(exercise, result, fingerprint)
            results.append(result)
    return results


def _not_started(exercise: Exercise) -> ExerciseResult:
    tasks = [
        TaskResult(one.id, one.title, Verdict.FAIL, 0, one.points, saw="not started, so there are no files")
        for one in exercise.file.tasks
    ]
    return ExerciseResult(exercise.name, exercise.file.title, tasks)


def _shown(results: Sequence[ExerciseResult], room: Classroom) -> str:
    lines = []
    for result in results:
        lines.append(f"{result.exercise}: {result.points} of {result.of} points")
        lines += result_lines(result, width=room.lesson().width, colour=has_colour())
        if result.verdict is Verdict.FAIL:
            lines += ["", f"a hint: {invocation('learn', 'hint', result.exercise[:2])}"]
    return "\n".join(lines)


for _command in (dev, export_command, class_command):
    learn.add_command(_command)
