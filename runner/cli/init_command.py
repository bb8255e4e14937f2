"""The ``init`` command, which creates a new project with the shipped services and an example plugin."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shlex
import sys
from pathlib import Path

import click
from click.core import ParameterSource

from runner.cli.terminal import terminal_width, wrapped
from runner.config.json_schema import MODELS, json_schema
from runner.errors import RunnerError
from runner.invocation import callable_path, invocation, invoked_for
from runner.topology.plan import counted

TEMPLATE = Path(__file__).parent.parent / "project_template"


@click.command(short_help="Create a new project in a folder.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.pass_context
def init(context: click.Context, folder: Path) -> None:
    """Create a new project in the folder DIR.

    The project runs the shipped services, and contains an example plugin with a test. DIR is created if it does not
    exist. Existing files are never overwritten.
    """
    root = context.find_root()
    if root.get_parameter_source("project") is not ParameterSource.DEFAULT:
        raise click.UsageError(f"init does not accept --project; allowed: {invocation('init', str(folder))}")
    names = write_project(folder)
    click.echo(wrapped(f"{folder}: wrote {', '.join(names)}"))
    click.echo("\n".join(["next:", *_next_commands(folder)]))


def write_project(folder: Path) -> list[str]:
    """Write the files of a new project, and return the file names.

    If writing fails, remove the files and raise RunnerError.
    """
    files = project_files()
    present = [name for name in files if os.path.lexists(folder / name)]
    if present:
        more = f" and {counted(len(present) - 1, 'other project file')}" if len(present) > 1 else ""
        raise RunnerError(f"{folder}: already contains {present[0]}{more}; allowed: a new folder")
    written: list[Path] = []
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise RunnerError(f"{error.filename or folder}: cannot be written, {error.strerror}") from None
    return list(files)


def project_files() -> dict[str, str]:
    """Return a mapping from the file names to the texts of a new project."""
    # The template contains its own YAML files, because the user of a checkout edits the shipped YAML files.
    names = ("topology.yaml", "config.yaml", "plugins/large_orders.py", "test_large_orders.py", "compose.yaml")
    files = {name: (TEMPLATE / name).read_text("utf-8") for name in names}
    # The first line of topology.yaml and config.yaml points editors to the schema.
    files |= {f"docs/schema/{name}.json": f"{json.dumps(json_schema(name), indent=2)}\n" for name in sorted(MODELS)}
    return {**files, ".gitignore": (TEMPLATE / "gitignore").read_text("utf-8")}


def _next_commands(folder: Path) -> list[str]:
    """Return the commands to run next, each with its purpose. The first command changes to the new folder."""
    commands = {}
    if not folder.samefile(Path()):
        commands[f"cd {shlex.quote(str(folder))}"] = "the other commands run in this folder"
    with contextlib.chdir(folder), invoked_for(Path()):
        commands[invocation()] = "runs all services until Ctrl-C"
        python = callable_path(sys.executable)
        install = "" if importlib.util.find_spec("pytest") else f"{python} -m pip install pytest && "
        commands[f"{install}{python} -m pytest"] = "runs the plugin's test, without a broker"
        commands[invocation("--help")] = "lists all commands"
    width = max(map(len, commands))
    lines = [f"  {command:<{width}}  # {purpose}" for command, purpose in commands.items()]
    screen = terminal_width()
    if screen is None or max(map(len, lines)) <= screen:
        return lines
    # A line that the terminal breaks is hard to read, but a wrapped command could not be copied.
    return [line for command, purpose in commands.items() for line in (f"  # {purpose}", f"  {command}")]
