"""The main command, with all subcommands and their common options."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from runner import __version__
from runner.cli.terminal import guarded
from runner.errors import EXIT_INTERRUPTED, EXIT_OK, RunnerError
from runner.invocation import COMPLETION_VARIABLE, invocation, invoked_for

#: A paragraph after a line with \\b keeps its line breaks (click: "Documenting Scripts", "Escaping Newlines").
EPILOG = """
Put --project before the command.

\b
Exit codes:
  0   success, or stopped on request
  1   a command failed, the supervisor gave up on a service,
      or lint reported findings
  2   invalid command line, or plan reported changes
  3   an object must still be replaced or retired
  4   plan could not compare everything
  74  the database is unreachable
  75  the broker is unreachable
  78  configuration error
"""

#: The headings of the help and of docs/cli.md, in the order in which a new user needs the commands, and the module and
#: variable of each command. Only the module of the chosen command is imported, so that commands start quickly.
HEADINGS = {
    "Starting a project": {
        "init": "runner.cli.init_command:init",
        "completion": "runner.cli.completion_command:completion",
    },
    "Exercises": {
        "learn": "runner.learn.learn_command:learn",
    },
    "Running services": {
        "run": "runner.cli.run_command:run",
        "status": "runner.cli.status_command:status",
        "top": "runner.dashboard.top_command:top",
        "logs": "runner.cli.service_commands:logs",
        "start": "runner.cli.service_commands:start",
        "stop": "runner.cli.service_commands:stop",
        "restart": "runner.cli.service_commands:restart",
        "scale": "runner.cli.service_commands:scale",
        "reload": "runner.cli.service_commands:reload",
        "down": "runner.cli.service_commands:down",
    },
    "Checking the files": {
        "check": "runner.cli.check_command:check",
        "lint": "runner.cli.check_command:lint",
        "route": "runner.cli.route_command:route",
        "render": "runner.cli.render_command:render",
        "graph": "runner.cli.render_command:graph",
        "schema": "runner.cli.check_command:schema",
        "import": "runner.cli.render_command:import_",
    },
    "Changing the broker": {
        "plan": "runner.cli.plan_command:plan",
        "apply": "runner.cli.plan_command:apply",
    },
    "Messages in queues": {
        "queues": "runner.queues.queues_command:queues",
        "peek": "runner.queues.peek_command:peek",
        "publish": "runner.queues.publish_command:publish",
        "purge": "runner.queues.purge_command:purge",
        "move": "runner.queues.move_command:move",
    },
    "Dead letters": {
        "dlq": "runner.deadletters.dlq_command:dlq",
    },
    "Orders and events": {
        "events": "runner.history.events_command:events",
        "order": "runner.history.order_command:order",
        "ledger": "runner.ledger.ledger_command:ledger",
    },
    "Fault injection": {
        "fault": "runner.faults.fault_command:fault",
    },
}
LAZY = {name: place for commands in HEADINGS.values() for name, place in commands.items()}

#: The key under which click's context stores all arguments, for the error about a misplaced ``--project``.
ARGUMENTS = "runner.arguments"


class CommandGroup(click.Group):
    """The command group, which invokes ``run`` by default and prints expected errors without a traceback."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the command line with guarded output, so that untrusted text cannot control the terminal."""
        # click writes completions as bytes, which the guard rejects.
        with contextlib.nullcontext() if os.environ.get(COMPLETION_VARIABLE) else guarded():
            return super().main(*args, **{"complete_var": COMPLETION_VARIABLE, **settings})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add ``run`` if the arguments contain no command."""
        ctx.meta[ARGUMENTS] = list(args)
        rest = super().parse_args(ctx, args)
        # During shell completion, ``run`` is not added, so that the shell can offer all commands.
        if not ctx._protected_args and not ctx.args and not ctx.resilient_parsing:
            return super().parse_args(ctx, [*args, "run"])
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command. Print an expected error, and exit with the error's exit code."""
        try:
            return super().invoke(ctx)
        except RunnerError as error:
            for line in str(error).splitlines():
                click.secho(line, err=True, fg="red" if sys.stderr.isatty() else None)
            ctx.exit(error.exit_code)
        except click.NoSuchOption as error:
            if error.option_name == "--project":
                command = _project_first(ctx.meta[ARGUMENTS])
                raise click.UsageError(f"--project must precede the command: {command}", error.ctx) from None
            raise
        except KeyboardInterrupt:
            # Before the supervisor runs, there are no processes to stop.
            ctx.exit(EXIT_OK if ctx.invoked_subcommand == "run" else EXIT_INTERRUPTED)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command. Unlike click, suggest a known command if the name is unknown."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            # The module is imported here, so that the supervisor never loads it.
            unknown = importlib.import_module("runner.config.error_detail").unknown
            raise click.UsageError(unknown("command", name, self.list_commands(ctx)), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings, in columns that are aligned under all headings."""
        width = max(map(len, LAZY))
        for heading, commands in HEADINGS.items():
            found = [(name, self.get_command(ctx, name)) for name in commands]
            with formatter.section(heading):
                formatter.write_dl(
                    [(f"{name:<{width}}", one.get_short_help_str(formatter.width)) for name, one in found if one]
                )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *LAZY})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command after importing its module."""
        if cmd_name in LAZY:
            module, _, name = LAZY[cmd_name].partition(":")
            command: click.Command = getattr(importlib.import_module(module), name)
            return command
        return super().get_command(ctx, cmd_name)


def _project_first(arguments: Sequence[str]) -> str:
    """Return the command line with ``--project`` and its value before the command. A missing value becomes "."."""
    place = next(place for place, one in enumerate(arguments) if one.partition("=")[0] == "--project")
    _, is_joined, value = arguments[place].partition("=")
    rest = list(arguments[place + 1 :])
    folder = Path(value if is_joined else rest.pop(0) if rest else "")
    with invoked_for(folder):
        return invocation(*arguments[:place], *rest)


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.option(
    "--project",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path(),
    show_default="the current folder",
    help="The folder that contains topology.yaml, config.yaml and plugins/.",
)
@click.version_option(__version__, prog_name="FastCommerce")
@click.pass_context
def main(ctx: click.Context, project: Path) -> None:
    """Run the RabbitMQ services that topology.yaml and config.yaml define.

    If no command is given, runs all services.
    """
    ctx.obj = project
    ctx.with_resource(invoked_for(project))
