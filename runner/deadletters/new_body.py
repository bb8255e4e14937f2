"""The new body of a replayed message, which replaces the original body only after it has been saved to a file."""

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
from runner.topology.plan import counted

_JSON = "application/json"


@dataclass(frozen=True)
class NewBody:
    """A new message body, read from a file."""

    path: Path
    body: bytes

    @classmethod
    def of(cls, path: Path, ids: Sequence[str]) -> NewBody:
        """Read a new body from ``path``.

        Raises click.UsageError if the file is unreadable or ``ids`` is not exactly one id.
        """
        if len(ids) != 1:
            raise click.UsageError(f"--body: {len(ids)} --id options were given; allowed: exactly one --id")
        try:
            body = read_bounded(path, MAX_BODY)
        except FileTooLarge as error:
            text = f"{path}: too large; allowed: at most {error.limit} bytes"
            raise click.BadParameter(text, param_hint="--body") from None
        except OSError as error:
            raise click.BadParameter(f"{path}: cannot be read, {error.strerror}", param_hint="--body") from None
        return cls(path, body)

    def check(self, message: DeadLetter) -> None:
        """Raise click.BadParameter if the new body must be JSON but is not."""
        why = _why_json(message)
        if why is None:
            return
        try:
            decode_json(self.body)
        except ValueError as error:
            text = f"{self.path}: not JSON, {error}; allowed: JSON, because the message's {why}"
            raise click.BadParameter(text, param_hint="--body") from None

    def keep(self, message: DeadLetter, origin: str | None, var: Path) -> Path:
        """Save the original message to a new file, and return the file's path. Raises RunnerError."""
        file = ExportFile(named_by_time(var, "replaced"))
        file.write(json_text(record_of(message, origin)))
        file.sync()
        return file.path

    def preview(self, message: DeadLetter) -> str:
        """Return the line that a dry run prints about the old and the new body."""
        sizes = counted(len(message.body), "byte"), counted(len(self.body), "byte")
        return f"would replace the body ({sizes[0]}) with {self.path} ({sizes[1]})"


def _why_json(message: DeadLetter) -> str | None:
    """Return the reason why the new body must be JSON, or None if any body is allowed."""
    kind = text_of(message.properties.get("content_type"))
    if kind.partition(";")[0].strip().lower() == _JSON:
        return f"content type is {_JSON}"
    try:
        # A number or a word may be plain text, so only an object or an array counts as JSON.
        return "body is JSON now" if isinstance(decode_json(message.body), dict | list) else None
    except ValueError:
        return None
