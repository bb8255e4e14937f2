"""The actions of the page. Each action is a command line of this program, so the page can do what a terminal can."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Fields = Mapping[str, str]
#: A value must not be read as an option.
_VALUE = re.compile(r"[^-\s][^\x00-\x1f]{0,254}")
_NUMBER = re.compile(r"\d{1,6}")
_DURATION = re.compile(r"\d{1,6}(ms|s|m|h)")


class InvalidField(Exception):
    """The error for a missing or invalid field of an action."""


@dataclass(frozen=True)
class Action:
    """An action, with the function that returns its command line after the program's name."""

    arguments: Callable[[Fields], list[str]]
    #: The arguments that replace a question of the command, because the page has already asked.
    consent: tuple[str, ...] = ()


def _value(fields: Fields, name: str, pattern: re.Pattern[str] = _VALUE) -> str:
    value = fields.get(name, "")
    if not pattern.fullmatch(value):
        allowed = {_NUMBER: "a number", _DURATION: "a duration, such as 2s"}.get(pattern, "a name")
        raise InvalidField(f"{name}: not valid, {value!r}; allowed: {allowed}")
    return value


def _target(*words: str) -> Callable[[Fields], list[str]]:
    return lambda fields: [*words, _value(fields, "target")]


#: The actions by name.
ACTIONS: dict[str, Action] = {
    "start": Action(_target("start")),
    "stop": Action(_target("stop")),
    "restart": Action(_target("restart")),
    "scale": Action(lambda fields: ["scale", _value(fields, "target"), _value(fields, "instances", _NUMBER)]),
    "reload": Action(lambda _: ["reload"]),
    "kill": Action(_target("fault", "kill")),
    "slow": Action(lambda fields: ["fault", "slow", _value(fields, "target"), _value(fields, "delay", _DURATION)]),
    "pause": Action(_target("fault", "pause")),
    "peek": Action(lambda fields: ["peek", "-n", _value(fields, "count", _NUMBER), _value(fields, "target")]),
    "purge": Action(_target("purge"), consent=("--yes",)),
}


def command_line(name: str, fields: Fields) -> list[str]:
    """Return the arguments of an action's command line. Raises KeyError and InvalidField."""
    return ACTIONS[name].arguments(fields)
