"""The ``completion`` command, which prints a shell completion script for commands and options."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from runner.invocation import COMPLETION_VARIABLE, PROGRAM

COMPLETIONS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}

#: A paragraph after a line with \b keeps its line breaks (click: "Documenting Scripts", "Escaping Newlines").
HELP = f"""Print a shell completion script for commands and options.

Add the line for your shell to the startup file of the shell:

\b
~/.bashrc                   eval "$({PROGRAM} completion bash)"
~/.zshrc, after compinit    eval "$({PROGRAM} completion zsh)"
~/.config/fish/config.fish  {PROGRAM} completion fish | source
"""


@click.command(help=HELP, short_help="Print a shell completion script.")
@click.argument("shell", type=click.Choice(list(COMPLETIONS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell."""
    click.echo(COMPLETIONS[shell](context.find_root().command, {}, PROGRAM, COMPLETION_VARIABLE).source())
