"""Each action of the page is a command line that the program accepts, and no field can become an option."""

from __future__ import annotations

import click
import pytest

from runner.cli.main import main
from runner.dashboard.page_action import ACTIONS, InvalidField, command_line

#: Valid fields of the actions, and the command lines.
LINES = {
    "start": ({"target": "payment"}, "start payment"),
    "stop": ({"target": "payment.2"}, "stop payment.2"),
    "restart": ({"target": "payment"}, "restart payment"),
    "scale": ({"target": "payment", "instances": "3"}, "scale payment 3"),
    "reload": ({}, "reload"),
    "kill": ({"target": "payment.1"}, "fault kill payment.1"),
    "slow": ({"target": "payment", "delay": "2s"}, "fault slow payment 2s"),
    "pause": ({"target": "payment.1"}, "fault pause payment.1"),
    "clear": ({}, "fault clear"),
    "peek": ({"target": "pay", "count": "5"}, "peek -n 5 pay"),
    "purge": ({"target": "pay"}, "purge pay"),
    "publish": ({"target": "pay", "type": "order.created", "body": "{}"}, "publish pay --type order.created --body {}"),
}


def accepted(arguments: list[str]) -> dict[str, object]:
    """Return the parameters that the program reads from a command line. Raises click.UsageError."""
    with click.Context(main) as context:
        command: click.Command = main
        while isinstance(command, click.Group):
            name, found, arguments = command.resolve_command(context, arguments)
            assert found is not None
            command = found
        return dict(command.make_context(name, arguments, parent=context).params)


@pytest.mark.parametrize("name", LINES)
def test_an_action_is_a_command_line_that_the_program_accepts(name: str) -> None:
    fields, line = LINES[name]
    arguments = command_line(name, fields)
    assert arguments == line.split()
    accepted([*arguments, *ACTIONS[name].consent])


@pytest.mark.parametrize("value", ["--yes", "-n", "-", "", " x", "a\nb", "a\x00", "x" * 256])
@pytest.mark.parametrize(("name", "field"), [(name, field) for name, (fields, _) in LINES.items() for field in fields])
def test_a_value_that_looks_like_an_option_is_refused(name: str, field: str, value: str) -> None:
    fields, _ = LINES[name]
    if field == "body" and "\x00" not in value:
        # The program never reads the argument after --body as an option.
        arguments = command_line(name, {**fields, field: value})
        assert accepted(arguments)["text"] == value
        return
    if field == "type" and not value:
        assert "--type" not in command_line(name, {**fields, field: value})
        return
    with pytest.raises(InvalidField, match=f"^{field}: not valid, .*; allowed: "):
        command_line(name, {**fields, field: value})


@pytest.mark.parametrize(
    ("name", "fields", "error"),
    [
        ("scale", {"target": "payment", "instances": "two"}, "instances: not valid, 'two'; allowed: a number"),
        ("slow", {"target": "payment", "delay": "2"}, "delay: not valid, '2'; allowed: a duration, such as 2s"),
        ("start", {}, "target: not valid, ''; allowed: a name"),
        ("publish", {"target": "pay", "body": "x" * 30_001}, "allowed: up to 30,000 characters"),
    ],
)
def test_an_invalid_field_is_reported_with_the_allowed_values(name: str, fields: dict[str, str], error: str) -> None:
    with pytest.raises(InvalidField) as raised:
        command_line(name, fields)
    assert error in str(raised.value)
    assert len(str(raised.value)) < 200


def test_line_breaks_of_a_form_are_line_feeds_in_the_body() -> None:
    arguments = command_line("publish", {"target": "pay", "type": "", "body": "{\r\n}\n"})
    assert arguments == ["publish", "pay", "--body", "{\n}\n"]
