"""Errors in YAML files, with the allowed values, the probable spelling or the correct place of a key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

Path = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")

#: The former keys and their replacements, by file. ``NAME`` stands for the name of a service.
FORMER_KEYS = {
    "config.yaml": {
        "broker.start": "autostart",
        "faults": "fault_injection",
        "services.NAME.inbox.keep": "retention",
        "trace": "services.audit.options.attempts",
    },
    "topology.yaml": {"silence": "lint.ignore"},
}


@dataclass(frozen=True, order=True)
class ErrorDetail:
    """An error, printed as ``file:line: path: text``. The text states the problem, the value and the allowed values."""

    file: str
    line: int
    path: str
    text: str

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}: {where}{self.text}"


def dotted(path: Path) -> str:
    """Return a path as text, such as ``services.payment.consumes.0``. Keys with special characters are quoted."""
    return ".".join(
        str(part) if isinstance(part, int) or _PLAIN_KEY.fullmatch(part) else f'"{_on_one_line(part)}"' for part in path
    )


def _on_one_line(key: str) -> str:
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in key)


def value_at(data: Any, path: Path) -> Any:
    """Return the value at ``path`` in plain data, or None if there is no such value."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def shown(value: object) -> str:
    """Format a value for an error message, on one line and in at most 60 characters."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def misspelt(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name that is almost the same as ``name``, or None if there is no such name."""
    return next(iter(difflib.get_close_matches(name, sorted(allowed), n=1, cutoff=0.85)), None)


def one_of(name: str, allowed: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` if an allowed name is similar to ``name``, otherwise the list of allowed names."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if not names:
        return "none is defined"
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"allowed: {listed}"


def unknown(kind: str, name: str, allowed: Iterable[str], shown_name: str | None = None) -> str:
    """Return the error text for an unknown name. ``shown_name`` replaces a name that must not be shown."""
    return f"unknown {kind} {shown_name or repr(name)}; {one_of(name, allowed)}"


def new_key(file: str, path: Path) -> str | None:
    """Return the replacement for a former key at ``path``, or None for any other key."""
    name = dotted(("services", "NAME", *path[2:]) if path[:1] == ("services",) else path)
    return FORMER_KEYS.get(file, {}).get(name)


def belonging(key: str) -> str | None:
    """Return a text with the correct place of a key, or None if the place is unknown."""
    places = _places().get(key, ())
    return f"it belongs {' or '.join(places)}" if places else None


@cache
def _places() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for key, place in _keys():
        if place not in found.setdefault(key, []):
            found[key].append(place)
    # For a key that more than two places have, such as ``url``, the correct place cannot be guessed.
    return {key: tuple(places) for key, places in found.items() if len(places) <= 2}


def _keys() -> Iterator[tuple[str, str]]:
    # Imported here, because only a file with an error needs these modules.
    from runner.config import config_file as settings
    from runner.config import supervision
    from runner.config import topology_file as topology
    from runner.config.argument import QUEUE_ARGUMENTS, QUEUE_POLICY_KEYS

    for model, place in (
        (topology.QueueSettings, "to a queue in topology.yaml"),
        (topology.ExchangeSettings, "to an exchange in topology.yaml"),
        (topology.BindingSettings, "to an entry under bindings in topology.yaml"),
        (topology.PolicySettings, "to a policy in topology.yaml"),
        (topology.Topology, "at the top level of topology.yaml"),
        (settings.Config, "at the top level of config.yaml"),
        (settings.BrokerSettings, "under broker in config.yaml"),
        (supervision.Runner, "under runner in config.yaml"),
        (settings.InboxSettings, "under a service's inbox in config.yaml"),
        (settings.ServiceSettings, "to a service in config.yaml"),
    ):
        yield from ((name, place) for name in model.model_fields)
    for key, setting in QUEUE_ARGUMENTS.items():
        argument = f"under a queue's arguments in topology.yaml, as {key}"
        place = argument if setting.key not in QUEUE_POLICY_KEYS else "under a queue's policy in topology.yaml"
        yield setting.key, place
        yield key, "under a queue's arguments in topology.yaml"
