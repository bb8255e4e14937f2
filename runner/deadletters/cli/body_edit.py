"""``dlq replay --edit``: another body for one message, and the message as it was in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from runner.amqp.properties import MAX_BODY
from runner.bounded_file import FileTooLarge, read_bounded
from runner.cli.export_file import ExportFile, named_by_time
from runner.deadletters.dead_letter import DeadLetter, text_of
from runner.deadletters.json_record import record_of
from runner.escape import json_text
from runner.strict_json import decode_json
from runner.topology.change import counted

_JSON = "application/json"


@dataclass(frozen=True)
class BodyEdit:
    """What stands in a file, to be one message's body."""

    path: Path
    body: bytes

    @classmethod
    def of(cls, path: Path, ids: Sequence[str]) -> BodyEdit:
        """Read the file for the message of the only ``--id``. Raises click.UsageError."""
        if len(ids) != 1:
            raise click.UsageError("--edit: which message is meant is not clear; allowed: exactly one --id")
        try:
            body = read_bounded(path, MAX_BODY)
        except FileTooLarge as error:
            raise click.BadParameter(f"{path}: too large; allowed: {error.limit} bytes", param_hint="--edit") from None
        except OSError as error:
            raise click.BadParameter(f"{path}: cannot be read, {error.strerror}", param_hint="--edit") from None
        return cls(path, body)

    def check(self, letter: DeadLetter) -> None:
        """Refuse what the message's handlers could not even read. Raises click.BadParameter."""
        why = _why_json(letter)
        if why is None:
            return
        try:
            decode_json(self.body)
        except ValueError as error:
            text = f"{self.path}: is not JSON, {error}; allowed: JSON, because the message's {why}"
            raise click.BadParameter(text, param_hint="--edit") from None

    def keep(self, letter: DeadLetter, origin: str | None, var: Path) -> Path:
        """Write the message as it was to a new file; returns its path once it is on the disk. Raises RunnerError."""
        file = ExportFile(named_by_time(var, "replaced"))
        file.write(json_text(record_of(letter, origin)))
        file.sync()
        return file.path

    def foretold(self, letter: DeadLetter) -> str:
        """What would be replaced, in words."""
        return f"its body of {counted(len(letter.body), 'byte')} would be replaced by {len(self.body)} of {self.path}"


def _why_json(letter: DeadLetter) -> str | None:
    """What says that the body must be JSON, None where nothing does."""
    kind = text_of(letter.properties.get("content_type"))
    if kind.partition(";")[0].strip().lower() == _JSON:
        return f"content type is {_JSON}"
    try:
        # A number or a word may well be meant as text.
        return "body is JSON now" if isinstance(decode_json(letter.body), dict | list) else None
    except ValueError:
        return None
