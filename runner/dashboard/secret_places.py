"""The places of the secrets in a YAML text, up to its first error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import yaml

#: Keys whose values must not be shown.
SECRET = re.compile(r"(?i)password|passphrase|passwd|secret|token|credential|(api|private|access)_?key")
#: The options of a plugin. Elsewhere, a key with nested keys is the name of a service or a queue, such as ``tokens``.
_OPTIONS = "options"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ENDS = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


class SecretPlace(NamedTuple):
    """A scalar that is a secret. Lines and columns begin with 0, and the end is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int
    #: True for a text that begins below its key.
    is_block: bool


@dataclass
class _Collection:
    """A mapping or a sequence whose end has not been read."""

    is_mapping: bool
    is_secret: bool
    is_option: bool
    anchor: str | None
    #: The number of scalars before this collection.
    begin: int
    #: The current key of a mapping, or None before a key.
    key: str | None = None

    def holds_secret(self, event: yaml.Event) -> bool:
        """Return True if a value in this collection is a secret."""
        if self.is_secret or self.key is None or not SECRET.search(self.key):
            return self.is_secret
        return self.is_option or not isinstance(event, yaml.MappingStartEvent)


class SecretFinder:
    """The secrets in a YAML text. ``end`` is the line from which errors prevent the search, or None."""

    def __init__(self, text: str) -> None:
        self.places: set[SecretPlace] = set()
        self.end: int | None = None
        self._open = [_Collection(False, False, False, None, 0)]
        self._scalars: list[SecretPlace] = []
        #: The scalars of each anchor, because an alias may be the value of a secret key.
        self._anchors: dict[str, Sequence[SecretPlace]] = {}
        line = 0
        try:
            for event in yaml.parse(text, Loader=_LOADER):
                self._read(event)
                line = line if event.start_mark is None else event.start_mark.line
        except (yaml.YAMLError, ValueError):
            self.end = line

    def _read(self, event: yaml.Event) -> None:
        top = self._open[-1]
        if isinstance(event, _ENDS):
            ended = self._open.pop()
            self._keep(ended.anchor, self._scalars[ended.begin :])
            self._finish("")
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            is_option = top.is_option or top.key == _OPTIONS
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            count = len(self._scalars)
            self._open.append(_Collection(is_mapping, top.holds_secret(event), is_option, event.anchor, count))
        elif isinstance(event, yaml.ScalarEvent):
            begin, end = event.start_mark, event.end_mark
            assert begin is not None and end is not None  # noqa: S101, PT018 - for the type checker
            place = SecretPlace(begin.line, begin.column, end.line, end.column, event.style in ("|", ">"))
            is_key = top.is_mapping and top.key is None
            if not is_key and event.value:
                self._scalars.append(place)
                self.places |= {place} if top.holds_secret(event) else set()
            self._keep(event.anchor, [place])
            self._finish(event.value)
        elif isinstance(event, yaml.AliasEvent):
            if top.holds_secret(event):
                self.places |= set(self._anchors.get(str(event.anchor), ()))
            self._finish("")

    def _keep(self, anchor: str | None, places: Sequence[SecretPlace]) -> None:
        if anchor is not None:
            self._anchors[anchor] = places

    def _finish(self, name: str) -> None:
        """Finish a key or a value of the innermost collection."""
        top = self._open[-1]
        top.key = name if top.is_mapping and top.key is None else None
