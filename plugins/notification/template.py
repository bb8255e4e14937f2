"""E-mail templates, which users can edit and the service reads once at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from jinja2.loaders import split_template_path

from runner import ENCODED_WORD, FileTooLarge, PluginError, read_bounded

from . import SHIPPED
from .template_sandbox import Sandbox, begin

#: The event types that always need a template.
NEEDED = ("order.created", "payment.success", "payment.failed")
SUBJECT = "Subject:"
#: The maximum number of bytes in a template or in an included file.
MAX_BYTES = 64 * 1024


class TemplateFault(Exception):
    """The error for a template that cannot be filled in with an event's fields."""


@dataclass(frozen=True)
class Template:
    """The e-mail template for one event type."""

    path: Path
    subject: jinja2.Template
    text: jinja2.Template

    def render(self, values: Mapping[str, Any]) -> tuple[str, str]:
        """Return the subject and the text. Raises TemplateFault, for example if the event lacks a field."""
        try:
            begin(values)
            # If the fields were passed as keyword arguments, a field called "self" would cause an error.
            return self.subject.render(values), self.text.render(values).strip() + "\n"
        except RecursionError:
            raise TemplateFault(f"{self.path.name}: nested too deeply") from None
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise TemplateFault(f"{self.path.name}: {error}") from None


def load_templates(folder: Path | None) -> dict[str, Template]:
    """Read the plugin's templates and the templates in ``folder`` that override them. Raises PluginError."""
    if folder is not None and not folder.is_dir():
        raise PluginError(f"{folder}: is not a folder; the option 'templates' must name a folder with *.txt files")
    folders = [SHIPPED] if folder is None else [SHIPPED, folder]
    # In the sandbox, a template cannot run code. Plain text needs no escaping.
    environment = Sandbox(
        loader=jinja2.FunctionLoader(partial(_included, list(reversed(folders)))),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    files = {path.stem: path for place in folders for path in sorted(place.glob("*.txt"))}
    for event_type in NEEDED:
        if event_type not in files:
            raise PluginError(f"{SHIPPED / event_type}.txt: is missing; each event type needs a template")
    return {event_type: _read(path, environment) for event_type, path in files.items()}


def _included(folders: list[Path], name: str) -> str | None:
    """Return the text of a file that a template includes, or None if the file does not exist."""
    parts = split_template_path(name)  # refuses paths outside the folder
    path = next((found for folder in folders if (found := folder.joinpath(*parts)).is_file()), None)
    return None if path is None else read_bounded(path, MAX_BYTES).decode()


def _read(path: Path, environment: jinja2.Environment) -> Template:
    try:
        lines = read_bounded(path, MAX_BYTES, timeout=0.0).decode().splitlines()
    except FileTooLarge as error:
        raise PluginError(f"{path}: too large; allowed: {error.limit} bytes") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PluginError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    if not lines or not lines[0].startswith(SUBJECT) or not lines[0].removeprefix(SUBJECT).strip():
        raise PluginError(f"{path}:1: the subject is missing; the first line must be 'Subject: …'")
    if len(lines) > 1 and lines[1].strip():
        raise PluginError(f"{path}:2: the line after the subject is not empty, {lines[1]!r}; allowed: an empty line")
    if word := ENCODED_WORD.search(lines[0]):
        raise PluginError(
            f"{path}:1: the subject contains an encoded word (RFC 2047), {word[0]!r}; allowed: plain text"
        )
    # An empty line replaces the subject, so that errors report the correct line of the file.
    parts = lines[0].removeprefix(SUBJECT).strip(), "\n".join(["", *lines[1:]])
    try:
        subject, text = (environment.from_string(part) for part in parts)
    except jinja2.TemplateSyntaxError as error:
        raise PluginError(f"{path}:{error.lineno}: {error.message}") from None
    except RecursionError:
        raise PluginError(f"{path}: nested too deeply") from None
    return Template(path, subject, text)
