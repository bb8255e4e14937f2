"""``completion``: print a script with which a shell completes the program's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from runner.invocation import COMPLETION_VARIABLE, PROGRAM

COMPLETIONS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(COMPLETIONS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print a script that completes commands and options of fastcommerce in a shell.

    The script is for the start-up file of the shell:

    \b
      ~/.bashrc                   eval "$(fastcommerce completion bash)"
      ~/.zshrc, after compinit    eval "$(fastcommerce completion zsh)"
      ~/.config/fish/config.fish  fastcommerce completion fish | source
    """
    kind = COMPLETIONS[shell]
    click.echo(kind(context.find_root().command, {}, PROGRAM, COMPLETION_VARIABLE).source())
