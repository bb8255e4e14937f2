"""A mistyped command gets a suggestion, although its group imports commands only when they run."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from runner.cli.main import main
from runner.invocation import invocation


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("chek", "did you mean 'check'?"),
        ("queue", "did you mean 'queues'?"),
        ("statsu", "did you mean 'status'?"),
        ("purg", "did you mean 'purge'?"),
        ("orders", "did you mean 'order'?"),
        ("Reload", "did you mean 'reload'?"),
        ("zzz", "allowed: apply, check, completion, dlq, down, events, fault, graph and 24 more"),
    ],
)
def test_the_error_of_a_mistyped_command_suggests_another(name: str, hint: str) -> None:
    result = CliRunner().invoke(main, [name])
    assert result.exit_code == 2
    assert f"Error: unknown command '{name}'; {hint}\n" in result.output


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["4240e46b"], "to show the history of an order: {program} order history 4240e46b"),
        (["4240e46b", "--json"], "to show the history of an order: {program} order history 4240e46b --json"),
        (["histroy", "4240e46b"], "did you mean 'history'?"),
    ],
)
def test_an_order_id_without_a_subcommand_gets_the_command_for_its_history(arguments: list[str], hint: str) -> None:
    result = CliRunner().invoke(main, ["order", *arguments])
    assert result.exit_code == 2
    program = invocation()
    assert f"Error: unknown command '{arguments[0]}'; {hint.format(program=program)}\n" in result.output
