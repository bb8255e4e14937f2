"""The words of e-mails: files that a user may edit, read once at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runner import PluginError
from runner.mailbox import ENCODED_WORD

from . import SHIPPED

#: Without these an event of this system would find no words.
NEEDED = ("order.created", "payment.success", "payment.failed")
SUBJECT = "Subject:"


class TemplateFault(Exception):
    """A template cannot be filled in with what an event says."""


@dataclass(frozen=True)
class Template:
    """One event's e-mail."""

    path: Path
    subject: jinja2.Template
    text: jinja2.Template

    def render(self, values: Mapping[str, Any]) -> tuple[str, str]:
        """Return subject and text. Raises TemplateFault, say for a field that the event lacks."""
        # Given as one mapping: as keyword arguments a field called "self" would be an error.
        try:
            return self.subject.render(values), self.text.render(values).strip() + "\n"
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise TemplateFault(f"{self.path.name}: {error}") from None


def load_templates(folder: Path | None) -> dict[str, Template]:
    """Read the shipped templates and those of ``folder``, which win. Raises PluginError."""
    if folder is not None and not folder.is_dir():
        raise PluginError(f"{folder}: is not a folder; the option 'templates' names one with *.txt files")
    folders = [SHIPPED] if folder is None else [SHIPPED, folder]
    # Sandboxed, since editing a mail's words should not mean running code; plain text needs no escaping.
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(list(reversed(folders))),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    files = {path.stem: path for place in folders for path in sorted(place.glob("*.txt"))}
    for event_type in NEEDED:
        if event_type not in files:
            raise PluginError(f"{SHIPPED / event_type}.txt: is missing; each event needs a template")
    return {event_type: _read(path, environment) for event_type, path in files.items()}


def _read(path: Path, environment: jinja2.Environment) -> Template:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PluginError(f"{path}: cannot be read as UTF-8 text, {error}") from None
    if not lines or not lines[0].startswith(SUBJECT) or not lines[0].removeprefix(SUBJECT).strip():
        raise PluginError(f"{path}:1: the subject is missing; the first line is 'Subject: …'")
    if len(lines) > 1 and lines[1].strip():
        raise PluginError(f"{path}:2: the line after the subject is not empty, {lines[1]!r}")
    if word := ENCODED_WORD.search(lines[0]):
        raise PluginError(f"{path}:1: the subject holds an encoded word (RFC 2047), {word[0]!r}; write the text itself")
    # An empty line stands for the subject's, so that faults name the line in the file.
    parts = lines[0].removeprefix(SUBJECT).strip(), "\n".join(["", *lines[1:]])
    try:
        subject, text = (environment.from_string(part) for part in parts)
    except jinja2.TemplateSyntaxError as error:
        raise PluginError(f"{path}:{error.lineno}: {error.message}") from None
    return Template(path, subject, text)
