"""A mistyped command gets a suggestion, although its group imports commands only when they run."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from runner.cli.main import main


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("chek", "did you mean 'check'?"),
        ("queue", "did you mean 'queues'?"),
        ("statsu", "did you mean 'status'?"),
        ("purg", "did you mean 'purge'?"),
        ("orders", "did you mean 'order'?"),
        ("Reload", "did you mean 'reload'?"),
        ("zzz", "allowed: apply, check, completion, dlq, down, events, fault, graph and 22 more"),
    ],
)
def test_the_error_of_a_mistyped_command_suggests_another(name: str, hint: str) -> None:
    result = CliRunner().invoke(main, [name])
    assert result.exit_code == 2
    assert f"Error: unknown command '{name}'; {hint}\n" in result.output
