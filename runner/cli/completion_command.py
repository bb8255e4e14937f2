"""``completion``: a command that prints a shell script for completing the program's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from runner.invocation import COMPLETION_VARIABLE, PROGRAM

COMPLETIONS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}

#: A line with \b keeps the line breaks of the next paragraph (click: "Documenting Scripts", "Escaping Newlines").
HELP = f"""Print a script that completes commands and options in a shell.

Add the line of your shell to its start-up file:

\b
~/.bashrc                   eval "$({PROGRAM} completion bash)"
~/.zshrc, after compinit    eval "$({PROGRAM} completion zsh)"
~/.config/fish/config.fish  {PROGRAM} completion fish | source
"""


@click.command(help=HELP, short_help="Print a script that completes commands in a shell.")
@click.argument("shell", type=click.Choice(list(COMPLETIONS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    click.echo(COMPLETIONS[shell](context.find_root().command, {}, PROGRAM, COMPLETION_VARIABLE).source())
