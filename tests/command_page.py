"""``python -m tests.command_page`` writes docs/cli.md, from the commands themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from runner.cli.main import HEADINGS, main
from tests.running import ROOT

PAGE = ROOT / "docs" / "cli.md"

INTRODUCTION = """\
# Commands

*For everyone who uses the command line: each command with its arguments, options and examples.*

The `fastcommerce` program is in `.venv/bin`. To run the program by name, run `source .venv/bin/activate` once in a
terminal. `.venv/bin/python -m runner` starts the same program. If no command is given, the program runs all services.
To use a project in another folder, put `--project DIR` before the command. The option `--help` prints the text on this
page, which `make schema` generates from the commands.

- Commands such as `plan`, `apply`, `queues`, `dlq` and `ledger` use the broker that answers. If no broker answers,
  these commands run the private RabbitMQ until they finish.
- `check`, `lint`, `route`, `render`, `graph` and `schema` need no broker. `events`, `order list` and `order history`
  need only the database.
- `status`, `logs`, `start`, `stop`, `restart`, `scale`, `reload` and `down` need the running supervisor of the folder.
- Commands that delete messages ask for confirmation, and write the messages to a file. In a script, use `--yes`.

## Exit codes

| exit code | meaning |
|---|---|
| 0 | success, or stopped on request |
| 1 | a command failed, the supervisor gave up on a service, or `lint` reported findings |
| 2 | invalid command line, or `plan` reported changes |
| 3 | an object must still be replaced or retired |
| 4 | `plan` could not compare everything |
| 74 | the database is unreachable |
| 75 | the broker is unreachable |
| 78 | configuration error |
| 130, 143 | a command was interrupted by Ctrl-C or by SIGTERM |
"""

#: The page with more about the commands under each heading.
MORE = {
    "Starting a project": "operations.md",
    "Exercises": "learning.md",
    "Running services": "supervisor.md",
    "Checking the files": "topology.md",
    "Changing the broker": "topology.md",
    "Messages in queues": "queues.md",
    "Dead letters": "dead-letters.md",
    "Orders and events": "audit.md",
    "Fault injection": "faults.md",
}

#: Command lines that people use, and what each does.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "init": (("init shop", "a new project in the folder shop"),),
    "learn": (("learn", "the current exercise, with a check at each save"), ("learn start 3", "another exercise")),
    "learn check": (("learn check --all --format junit --output result.xml", "every exercise, for other programs"),),
    "run": (
        ("", "everything"),
        ("run payment notification", "only these services"),
        ("run --watch", "also applies each saved change"),
        ("run --log-format json", "for programs"),
    ),
    "status": (("status --watch", "every second"), ("status payment --json", "one service, for programs")),
    "logs": (("logs payment -f", "one service, and new lines"), ("logs --order 4240e46b", "about one order")),
    "restart": (("restart payment", "each process in turn"), ("restart payment.2", "one process")),
    "scale": (("scale payment 3", "three processes"),),
    "route": (("route orders.topic order.created", "the queues that an order reaches"),),
    "render": (("render --definitions", "a file for RabbitMQ's import"),),
    "graph": (("graph --format svg > topology.svg", "a diagram"),),
    "import": (("import live > topology.yaml", "a file for an existing broker"),),
    "apply": (
        ("apply --prune", "also deletes objects that the file no longer contains"),
        ("apply --replace payment.order.created --drain", "replaces one queue, and moves its messages"),
    ),
    "queues": (("queues --watch", "every second"),),
    "peek": (("peek payment.order.created -n 5", "the first five messages"),),
    "move": (("move eu.orders payment.order.created", "all ready messages, in order"),),
    "dlq show": (("dlq show 4a4d3e99", "the message whose id begins so"),),
    "dlq replay": (
        ("dlq replay --queue payment.order.created --dry-run", "shows what it would do"),
        ("dlq replay --match gateway --rate 10", "ten messages a second"),
    ),
    "dlq export": (("dlq export --file dead-letters.jsonl", "all of them"),),
    "events": (("events --type payment.failed --since 1h", "declined orders of the last hour"),),
    "order list": (
        ("order list --status failed --since 1h", "orders of the last hour without a decision, but with a dead letter"),
        ("order list --email alice@example.com", "all orders of one customer"),
    ),
    "order history": (("order history 4240e46b", "the order whose id begins so"),),
    "ledger": (("ledger --since 1h", "only the last hour"),),
    "fault": (("fault kill payment", "ends one process"), ("fault slow payment 2s --for 30s", "delays each handler")),
}


def commands(group: click.Group = main, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command and subcommand with its name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")


def page() -> str:
    """Return the whole page."""
    every = dict(commands())
    parts = [INTRODUCTION, _overview(every)]
    for title, names in HEADINGS.items():
        parts.append(f"## {title}\n\nMore: [{MORE[title]}]({MORE[title]}).\n")
        parts += [_described(one, every[one]) for name in names for one in every if one.split()[0] == name]
    return "\n".join(parts)


def _overview(every: dict[str, click.Command]) -> str:
    lines = ["## Overview", "", "| command | what it does |", "|---|---|"]
    for names in HEADINGS.values():
        lines += [f"| [`{name}`](#{name}) | {_marked_up(every[name].get_short_help_str(120))} |" for name in names]
    return "\n".join([*lines, ""])


def _described(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"fastcommerce {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"### {name}", "", f"`{context.info_name} {usage}`", ""]
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        lines += [_shown(paragraph), ""]
    if examples := EXAMPLES.get(name):
        width = max(len(line) for line, _ in examples)
        lines += ["```sh", *(f"fastcommerce {line:{width}}  # {meaning}" for line, meaning in examples), "```", ""]
    options = [param.get_help_record(context) for param in command.params if isinstance(param, click.Option)]
    if rows := [record for record in options if record is not None]:
        lines += ["| option | meaning |", "|---|---|"]
        escaped = [(names.replace("|", "\\|"), meaning) for names, meaning in rows]
        lines += [f"| `{names}` | {_marked_up(meaning)} |" for names, meaning in escaped]
        lines.append("")
    return "\n".join(lines)


def _shown(paragraph: str) -> str:
    """Return a paragraph as Markdown. A paragraph that keeps its line breaks becomes a block of code."""
    mark, _, rest = paragraph.partition("\n")
    return f"```\n{rest}\n```" if mark == "\b" else _marked_up(paragraph)


def _marked_up(text: str) -> str:
    """Return a help text as Markdown: options and names of files become code."""
    text = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*|\w[\w/.-]*\.(?:yaml|jsonl?|dlq))", r"`\1`", text)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
