"""The actions of the page. Each action is a command line of this program, so the page can do what a terminal can."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runner.config.error_detail import shown

Fields = Mapping[str, str]
#: A value must not be read as an option.
_VALUE = re.compile(r"[^-\s][^\x00-\x1f]{0,254}")
_NUMBER = re.compile(r"\d{1,6}")
_DURATION = re.compile(r"\d{1,6}(ms|s|m|h)")
#: The type of a message, which may be empty.
_TYPE = re.compile(r"([^-\s][^\x00-\x1f]{0,254})?")
#: The body of a message. The limit is below the maximum length of an argument (execve(2), MAX_ARG_STRLEN).
_BODY = re.compile(r"[^\x00]{0,30000}")
_CHOICE = re.compile(r"[a-f]")
_ALLOWED = {
    _NUMBER: "a number", _DURATION: "a duration, such as 2s", _BODY: "up to 30,000 characters",
    _CHOICE: "a letter from a to f",
}  # fmt: skip


class InvalidField(Exception):
    """The error for a missing or invalid field of an action."""


@dataclass(frozen=True)
class Action:
    """An action, with the function that returns its command line after the program's name."""

    arguments: Callable[[Fields], list[str]]
    #: The arguments that replace a question of the command, because the page has already asked.
    consent: tuple[str, ...] = ()
    #: The function that returns the command line to show, if ``arguments`` also writes a file for the command.
    preview: Callable[[Fields], list[str]] | None = None


def _value(fields: Fields, name: str, pattern: re.Pattern[str] = _VALUE) -> str:
    value = fields.get(name, "")
    if not pattern.fullmatch(value):
        allowed = _ALLOWED.get(pattern, "a name")
        raise InvalidField(f"{name}: not valid, {shown(value)}; allowed: {allowed}")
    return value


def _target(*words: str) -> Callable[[Fields], list[str]]:
    return lambda fields: [*words, _value(fields, "target")]


def _publish(fields: Fields) -> list[str]:
    kind = _value(fields, "type", _TYPE)
    # A browser sends line breaks as CR LF (HTML, "multipart/form-data").
    body = _value(fields, "body", _BODY).replace("\r\n", "\n")
    return ["publish", _value(fields, "target"), *(["--type", kind] if kind else []), "--body", body]


def _exercise(command: str) -> Callable[[Fields], list[str]]:
    return lambda fields: ["learn", command, _value(fields, "target", _NUMBER)]


#: The actions by name.
ACTIONS: dict[str, Action] = {
    "start": Action(_target("start")),
    "stop": Action(_target("stop")),
    "restart": Action(_target("restart")),
    "scale": Action(lambda fields: ["scale", _value(fields, "target"), _value(fields, "instances", _NUMBER)]),
    "reload": Action(lambda _: ["reload"]),
    "apply": Action(lambda _: ["apply"]),
    "replace": Action(lambda fields: ["apply", "--replace", _value(fields, "target"), "--drain"]),
    "learn_start": Action(_exercise("start")),
    "learn_predict": Action(lambda fields: [*_exercise("predict")(fields), _value(fields, "choice", _CHOICE)]),
    "learn_review": Action(lambda fields: [*_exercise("review")(fields), _value(fields, "choice", _CHOICE)]),
    "learn_hint": Action(_exercise("hint")),
    "learn_solution": Action(_exercise("solution")),
    "learn_reset": Action(_exercise("reset")),
    "prune": Action(lambda _: ["apply", "--prune"]),
    "kill": Action(_target("fault", "kill")),
    "slow": Action(lambda fields: ["fault", "slow", _value(fields, "target"), _value(fields, "delay", _DURATION)]),
    "pause": Action(_target("fault", "pause")),
    "clear": Action(lambda _: ["fault", "clear"]),
    "publish": Action(_publish),
    "peek": Action(lambda fields: ["peek", "-n", _value(fields, "count", _NUMBER), _value(fields, "target")]),
    "purge": Action(_target("purge"), consent=("--yes",)),
}


def command_line(name: str, fields: Fields) -> list[str]:
    """Return the arguments of an action's command line. Raises KeyError and InvalidField."""
    return ACTIONS[name].arguments(fields)


def preview_line(name: str, fields: Fields) -> list[str]:
    """Return the arguments to show before an action runs. Nothing is written. Raises KeyError and InvalidField."""
    action = ACTIONS[name]
    return (action.preview or action.arguments)(fields)
