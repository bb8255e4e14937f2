"""The command lines of the page Dead letters."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from runner.cli.main import main
from runner.dashboard import dead_letter_actions
from runner.dashboard.page_action import ACTIONS, InvalidField, command_line, preview_line


@pytest.mark.parametrize(
    ("name", "fields", "line"),
    [
        ("replay", {"all": "1"}, "dlq replay --all"),
        ("replay", {"fingerprint": "3b19c0d2", "queue": "pay"}, "dlq replay --fingerprint 3b19c0d2 --queue pay"),
        ("replay", {"ids": "a\nb", "rate": "2.5"}, "dlq replay --id a --id b --rate 2.5"),
        ("replay", {"ids": "-x --all"}, "dlq replay --id=-x --all"),
        (
            "replay",
            {"all": "1", "include_replayed": "1", "since": "2026-11-30T19:32:03.250Z"},
            "dlq replay --all --include-replayed --skip-replayed-since 2026-11-30T19:32:03.250Z",
        ),
        ("discard", {"match": "timed out", "all": "1"}, "dlq discard --match timed out"),
        ("poison", {"target": "pay"}, "fault poison pay"),
    ],
)
def test_an_action_is_a_command_line(name: str, fields: dict[str, str], line: str) -> None:
    arguments = command_line(name, fields)
    assert " ".join(arguments) == line
    # The command accepts the options.
    group = main.get_command(click.Context(main), arguments[0])
    assert isinstance(group, click.Group)
    command = group.get_command(click.Context(group), arguments[1])
    assert command is not None
    given = command.make_context(arguments[1], [*arguments[2:], *ACTIONS[name].consent]).params
    assert given.get("ids", ()) == tuple(fields["ids"].split("\n") if "ids" in fields else ())


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("replay", {}, "no messages selected"),
        ("discard", {"all": "yes"}, "no messages selected"),
        ("replay", {"fingerprint": "3b19c0d2;"}, "fingerprint: not valid, '3b19c0d2;'"),
        ("replay", {"ids": "a\x00b"}, "id: not valid"),
        ("replay", {"ids": "x" * 2000}, "id: not valid"),
        ("replay", {"ids": "\n".join(map(str, range(201)))}, "201 messages; allowed: at most 200"),
        ("replay", {"all": "1", "rate": "0"}, "rate: not a rate, '0'; allowed: a number above 0"),
        ("replay", {"all": "1", "rate": "1e9"}, "rate: not a rate"),
        ("replay", {"all": "1", "since": "noon"}, "skip-replayed-since: not valid, 'noon'"),
        ("replay-copy", {"ids": "a"}, "an edited copy needs one id and a body"),
        ("replay-copy", {"all": "1", "body": "{}"}, "an edited copy needs one id and a body"),
        ("poison", {}, "target: not valid, ''"),
    ],
)
def test_an_invalid_field_of_an_action_is_refused(name: str, fields: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidField, match=words):
        command_line(name, fields)


def test_an_edited_copy_is_written_to_a_file_that_only_its_owner_can_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dashboard: Any = SimpleNamespace(folder=tmp_path)
    monkeypatch.setattr(dead_letter_actions, "current_dashboard", lambda: dashboard)
    *words, name = command_line("replay-copy", {"ids": "a1", "queue": "pay.dlq", "body": '{"n": 1}\n'})
    assert words == ["dlq", "replay", "--id", "a1", "--queue", "pay.dlq", "--body"]
    assert (tmp_path / name).read_bytes() == b'{"n": 1}\n'
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    (tmp_path / "other").touch()
    dashboard.folder = tmp_path / "other"
    with pytest.raises(InvalidField, match="cannot be written, Not a directory"):
        command_line("replay-copy", {"ids": "a1", "body": "{}"})


def test_the_line_that_is_shown_while_a_copy_is_edited_writes_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dead_letter_actions, "current_dashboard", lambda: SimpleNamespace(folder=tmp_path))
    found = preview_line("replay-copy", {"ids": "a1", "body": "{}"})
    assert found == ["dlq", "replay", "--id", "a1", "--body", "FILE"]
    assert list(tmp_path.iterdir()) == []
