"""The actions of the page Dead letters, as command lines."""

from __future__ import annotations

import os
import re
from pathlib import Path

from runner.cli.export_file import named_by_time
from runner.dashboard.page_action import ACTIONS, Action, Fields, InvalidField
from runner.dashboard.web_server import current_dashboard
from runner.deadletters.fingerprint import LENGTH

#: The maximum number of messages that one command line names.
MOST_IDS = 200
_FINGERPRINT = re.compile(f"[0-9a-f]{{{LENGTH}}}")
#: A text from a message, such as an id. Control characters are not allowed in a command line.
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,1024}")
_RATE = re.compile(r"\d{1,6}(\.\d{1,3})?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def selection_of(fields: Fields) -> list[str]:
    """Return the options that select the messages of an action. Raises InvalidField."""
    ids = [one for one in fields.get("ids", "").split("\n") if one]
    if len(ids) > MOST_IDS:
        raise InvalidField(f"ids: {len(ids)} messages; allowed: at most {MOST_IDS}, or a whole group")
    words = [word for one in ids for word in _option("--id", one, _TEXT)]
    for name, pattern in (("fingerprint", _FINGERPRINT), ("queue", _TEXT), ("match", _TEXT)):
        if value := fields.get(name, ""):
            words += _option(f"--{name}", value, pattern)
    if not words and fields.get("all") == "1":
        return ["--all"]
    if not words:
        raise InvalidField("no messages selected; allowed: ids, fingerprint, queue, match, or all")
    return words


def _option(name: str, value: str, pattern: re.Pattern[str]) -> list[str]:
    """Return an option with its value. A value that begins with a dash is not mistaken for an option."""
    if not pattern.fullmatch(value):
        raise InvalidField(f"{name.removeprefix('--')}: not valid, {value[:200]!r}")
    return [f"{name}={value}"] if value.startswith("-") else [name, value]


def _replay(fields: Fields) -> list[str]:
    words = ["dlq", "replay", *selection_of(fields)]
    if fields.get("include_replayed") == "1":
        words.append("--include-replayed")
    if since := fields.get("since", ""):
        words += _option("--skip-replayed-since", since, _TIME)
    if rate := fields.get("rate", ""):
        if not is_rate(rate):
            raise InvalidField(f"rate: not a rate, {rate!r}; allowed: a number above 0")
        words += ["--rate", rate]
    return words


def is_plain(text: str) -> bool:
    """Return True if a text from a message can be part of a command line."""
    return _TEXT.fullmatch(text) is not None


def is_rate(text: str) -> bool:
    """Return True if a text is a rate for ``dlq replay --rate``."""
    return _RATE.fullmatch(text) is not None and float(text) > 0


def _replay_copy(fields: Fields) -> list[str]:
    """Save the edited body to a file, and return the command line that replays a message with this body."""
    *words, _ = _preview_of_copy(fields)
    path = _written(named_by_time(current_dashboard().folder / "var", "edited").with_suffix(".body"), fields["body"])
    return [*words, os.path.relpath(path, current_dashboard().folder)]


def _preview_of_copy(fields: Fields) -> list[str]:
    words = selection_of(fields)
    if "body" not in fields or not words[0].startswith("--id"):
        raise InvalidField("an edited copy needs one id and a body")
    return ["dlq", "replay", *words, "--body", "FILE"]


def _poison(fields: Fields) -> list[str]:
    queue = fields.get("target", "")
    if not _TEXT.fullmatch(queue) or queue.startswith("-"):
        raise InvalidField(f"target: not valid, {queue[:200]!r}; allowed: a queue")
    return ["fault", "poison", queue]


def _written(path: Path, body: str) -> Path:
    """Write a body to a new file that only its owner can read. Raises InvalidField."""
    try:
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(body)
    except OSError as error:
        raise InvalidField(f"{path}: cannot be written, {error.strerror}") from None
    return path


#: A command asks no question and shows its progress only on a terminal, so these options are added to the line.
ACTIONS.update(
    {
        "replay": Action(_replay, consent=("--progress",)),
        "replay-copy": Action(_replay_copy, preview=_preview_of_copy),
        "discard": Action(lambda fields: ["dlq", "discard", *selection_of(fields)], consent=("--yes",)),
        "poison": Action(_poison),
    }
)
