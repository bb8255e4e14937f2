"""``learn export`` and ``learn class``: the commands for teachers."""

from __future__ import annotations

import json
from pathlib import Path

import click

from runner.learn.class_report import class_table, read_class
from runner.learn.classroom import Classroom
from runner.learn.exercise import named
from runner.learn.scaffold import export


@click.command("export", short_help="Copy the exercises for students.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.argument("names", metavar="[N]...", nargs=-1)
@click.option("--without-solutions", is_flag=True, help="Leave out all solutions, both correct and wrong.")
@click.pass_obj
def export_command(project: Path, folder: Path, names: tuple[str, ...], without_solutions: bool) -> None:
    """Copy all exercises, or exercises N, into the new folder DIR, for example for students."""
    room = Classroom(project)
    chosen = [named(room.exercises, one) for one in names] or room.exercises
    export(chosen, folder, has_solutions=not without_solutions)
    count = f"{len(chosen)} exercise{'' if len(chosen) == 1 else 's'}"
    click.echo(f"{folder}: wrote {count}{' without solutions' if without_solutions else ''}")


@click.command("class", short_help="Show the progress and the predictions of a class.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def class_command(project: Path, folder: Path, as_json: bool) -> None:
    """Show the progress and the predictions of a class.

    DIR contains a folder for each student, with the student's my-work/ or its contents. No server or account is needed.
    """
    room = Classroom(project)
    students = read_class(folder)
    if as_json:
        click.echo(json.dumps(students.as_json(room.exercises), indent=2))
    else:
        for line in class_table(students, room.exercises):
            click.echo(line)
