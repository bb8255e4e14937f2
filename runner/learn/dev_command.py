"""``learn dev``: the commands for authors of exercises."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import click

from runner.errors import EXIT_FAILURE, EXIT_OK
from runner.learn.classroom import Classroom
from runner.learn.classroom_broker import ClassroomBroker
from runner.learn.exercise import named
from runner.learn.proof import prove
from runner.learn.scaffold import scaffold

_NAME = re.compile(r"\d{2}-[a-z0-9]+(-[a-z0-9]+)*")


@click.group(short_help="Write and test exercises.")
def dev() -> None:
    """Write and test exercises. The page docs/exercises.md describes the format."""


@dev.command("check", short_help="Test exercises.")
@click.argument("names", metavar="[N]...", nargs=-1)
@click.option("--short", "is_short", is_flag=True, help="Check only the starters and the solutions.")
@click.option(
    "--parallel", type=click.IntRange(1, 16), default=max(1, (os.cpu_count() or 1) // 2), show_default=True,
    help="Number of exercises to check at the same time.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each check.")
@click.pass_obj
def dev_check(project: Path, names: tuple[str, ...], is_short: bool, parallel: int, as_json: bool) -> None:
    """Test all exercises, or exercises N.

    Each starter must fail, each solution must pass, and each wrong solution must fail with its sentence. Exits with 1
    if any of these checks fails.
    """
    room = Classroom(project)
    chosen = [named(room.exercises, one) for one in names] or room.exercises
    is_proved = True
    with ClassroomBroker(room.workspace.classroom) as broker:
        for one in prove(chosen, broker, is_short=is_short, parallel=parallel):
            is_proved = is_proved and not one.problems
            if as_json:
                content = {"what": one.what, "problems": list(one.problems), "seconds": one.seconds}
                click.echo(json.dumps(content))
                continue
            mark = "✗" if one.problems else "✓"
            click.echo(f"{mark} {one.what}" + (f"  {one.seconds:.1f} s" if one.seconds else ""))
            for problem in one.problems:
                click.echo("    " + problem.replace("\n", "\n    "))
    sys.exit(EXIT_OK if is_proved else EXIT_FAILURE)


@dev.command("new", short_help="Write a new exercise to start from.")
@click.argument("name", metavar="NN-NAME")
@click.pass_obj
def new(project: Path, name: str) -> None:
    """Write a new exercise into exercises/. The new exercise passes "learn dev check" without changes."""
    if not _NAME.fullmatch(name):
        raise click.BadParameter(f"not of the right form, {name!r}; allowed: 19-my-exercise", param_hint="NN-NAME")
    room = Classroom(project)
    target = scaffold(room.exercises[0].folder.parent, name, room.exercises[0].starter)
    click.echo(f"{target}: written; to test it: learn dev check {name[:2]}")
