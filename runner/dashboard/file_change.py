"""The differences between the running files and the edited files, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.config.argument import QUEUE_TYPE
from runner.config.document import Document
from runner.config.error_detail import Path as KeyPath
from runner.config.error_detail import dotted
from runner.config.project import CONFIG_FILE, TOPOLOGY_FILE, Project
from runner.config.value import format_duration
from runner.dashboard.secret_places import SECRET
from runner.topology.compile import owner_of_policy, path_of
from runner.topology.difference import shown
from runner.topology.model import Binding, Exchange, Objects, Queue
from runner.topology.plan import binding_name

#: The sections of topology.yaml that are compared as objects.
_COMPILED = ("defaults", "exchanges", "queues", "bindings", "policies")
#: The settings that a reload cannot change.
_FIXED = ("broker", "runner", "fault_injection")
_NOTHING = "not set"


@dataclass(frozen=True)
class FileChange:
    """One difference. The signs are those of ``plan``: ``+``, ``-``, ``~`` and ``>``."""

    sign: str
    kind: str
    name: str
    text: str
    file: str
    #: The line in the edited file, or in the running file for a removed object.
    line: int
    #: The id of the node in the picture of the running topology, or an empty string.
    node: str = ""

    @property
    def is_removed(self) -> bool:
        """True if ``line`` is a line of the running file."""
        return self.sign == "-"

    @property
    def place(self) -> str:
        """The place, such as ``topology.yaml:14``."""
        return f"{self.file}:{self.line}"


def changes_between(old: Project, new: Project, before: Objects, after: Objects) -> list[FileChange]:
    """Return all differences in the order of the files. ``before`` and ``after`` are the compiled topologies."""
    found = [*_Topologies(old, new, before, after).changes(), *_services(old, new), *_settings(old, new)]
    return sorted(found, key=lambda one: (one.file == CONFIG_FILE, one.line, one.is_removed))


class _Topologies:
    def __init__(self, old: Project, new: Project, before: Objects, after: Objects) -> None:
        self._old, self._new, self._before, self._after = old, new, before, after
        running = {one.name for one in before.queues}
        #: The queues that are renamed: the new name by the old name.
        self._renamed = {was: name for name, was in after.formerly.items() if was in running}

    def changes(self) -> Iterator[FileChange]:
        for was, name in self._renamed.items():
            line = self._new.topology_document.line(("queues", name, "formerly"))
            yield FileChange(">", "queue", was, f"is renamed to {name}", TOPOLOGY_FILE, line, f"queue {was}")
        yield from self._things("exchange", self._before.exchanges, self._after.exchanges)
        queues = [one for one in self._before.queues if one.name not in self._before.generated]
        yield from self._things(
            "queue", queues, [one for one in self._after.queues if one.name not in self._after.generated]
        )
        yield from self._bindings()
        yield from self._policies()

    def _things(
        self, kind: str, before: Iterable[Exchange | Queue], after: Iterable[Exchange | Queue]
    ) -> Iterator[FileChange]:
        old = {self._renamed.get(one.name, one.name) if kind == "queue" else one.name: one for one in before}
        new = {one.name: one for one in after}
        for name, thing in new.items():
            line = self._new.topology_document.line(path_of(thing, self._new.topology))
            facts = self._facts(thing, self._after)
            if name not in old:
                text = ", ".join(["is new", facts["type"], *(["retry " + facts["retry"]] if "retry" in facts else [])])
                yield FileChange("+", kind, name, text, TOPOLOGY_FILE, line)
            elif words := _words_of(self._facts(old[name], self._before), facts):
                yield FileChange("~", kind, name, "; ".join(words), TOPOLOGY_FILE, line, f"{kind} {old[name].name}")
        for name, thing in old.items():
            if name not in new:
                line = self._old.topology_document.line(path_of(thing, self._old.topology))
                yield FileChange("-", kind, name, "is removed", TOPOLOGY_FILE, line, f"{kind} {name}")

    @staticmethod
    def _facts(thing: Exchange | Queue, objects: Objects) -> dict[str, str]:
        """Return everything about an exchange or queue by name, as text."""
        kind = "queue" if isinstance(thing, Queue) else "exchange"
        facts: dict[str, Any] = {"type": thing.type}
        facts |= {name: value for name, value in thing.arguments.items() if name != QUEUE_TYPE}
        for policy in objects.policies:
            if owner_of_policy(policy.name) == (kind, thing.name):
                facts |= policy.definition
        facts |= {} if thing.durable else {"durable": False}
        facts |= {"auto-delete": True} if thing.auto_delete else {}
        facts |= {"internal": True} if isinstance(thing, Exchange) and thing.internal else {}
        retry = objects.retry_delays.get(thing.name) if kind == "queue" else None
        if retry is not None:
            # The retry delays imply the settings of RabbitMQ's dead-lettering.
            facts = {name: value for name, value in facts.items() if not name.startswith(("dead-letter-", "x-dead-"))}
            if retry.steps:
                facts["retry"] = " ".join(format_duration(delay) for delay, _ in retry.steps)
            # The usual name follows from the queue's name.
            if retry.dead_letter != f"{thing.name}.dlq":
                facts["dead letters"] = retry.dead_letter
        return {name: value if isinstance(value, str) else shown(value) for name, value in facts.items()}

    def _bindings(self) -> Iterator[FileChange]:
        removed_queues = {one.name for one in self._before.queues} - {one.name for one in self._after.queues}
        old = {_binding_key(one, self._renamed): one for one in self._before.bindings}
        new = {_binding_key(one, self._renamed): one for one in self._after.bindings}
        for key, one in new.items():
            if key not in old:
                line = self._new.topology_document.line(path_of(one, self._new.topology))
                yield FileChange("+", "binding", binding_name(one), "is new", TOPOLOGY_FILE, line)
        for key, one in old.items():
            # A removed queue takes its bindings with it.
            if key not in new and one.destination not in removed_queues - self._renamed.keys():
                line = self._old.topology_document.line(path_of(one, self._old.topology))
                node = f"{one.destination_type} {one.destination}"
                yield FileChange("-", "binding", binding_name(one), "is removed", TOPOLOGY_FILE, line, node)

    def _policies(self) -> Iterator[FileChange]:
        old, new = self._old.topology.policies, self._new.topology.policies
        for name in [*new, *(one for one in old if one not in new)]:
            if old.get(name) == new.get(name):
                continue
            sign = "+" if name not in old else "-" if name not in new else "~"
            document = (self._old if sign == "-" else self._new).topology_document
            text = {"+": "is new", "-": "is removed"}.get(sign) or "; ".join(
                _leaf_words(self._old.topology_document, document, ("policies", name))
            )
            yield FileChange(sign, "policy", name, text, TOPOLOGY_FILE, document.line(("policies", name)))


def _binding_key(binding: Binding, renamed: Mapping[str, str]) -> tuple[object, ...]:
    source, kind, destination, *rest = binding.key
    return (source, kind, renamed.get(destination, destination) if kind == "queue" else destination, *rest)


def _words_of(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return a text for each fact that differs."""
    names = dict.fromkeys([*new, *old])
    return [
        f"{name} {old.get(name, _NOTHING)} → {new.get(name, _NOTHING)}"
        for name in names
        if old.get(name) != new.get(name)
    ]


def _services(old: Project, new: Project) -> Iterator[FileChange]:
    before, after = old.config_document, new.config_document
    running, edited = before.keys_of("services"), after.keys_of("services")
    for name in edited | running:
        path: KeyPath = ("services", name)
        line = (after if name in edited else before).line(path)
        if name not in running:
            settings = _leaf_words(Document(CONFIG_FILE, "", {}), after, path)
            yield FileChange("+", "service", name, "; ".join(["is new", *settings]), CONFIG_FILE, line)
        elif name not in edited:
            yield FileChange("-", "service", name, "is removed", CONFIG_FILE, line, f"service {name}")
        elif differences := list(_leaf_words(before, after, path)):
            yield FileChange("~", "service", name, "; ".join(differences), CONFIG_FILE, line, f"service {name}")


def _settings(old: Project, new: Project) -> Iterator[FileChange]:
    """Yield the other changes of both files."""
    pairs = (
        (TOPOLOGY_FILE, old.topology_document, new.topology_document, _COMPILED),
        (CONFIG_FILE, old.config_document, new.config_document, ("services",)),
    )
    for file, before, after, compared in pairs:
        for key in [one for one in {**after.data, **before.data} if one not in compared]:
            words = list(_leaf_words(before, after, (key,)))
            if not words:
                continue
            if file == CONFIG_FILE and key in _FIXED:
                words.append("a reload cannot apply this change; restart the supervisor")
            sign = "+" if key not in before.data else "-" if key not in after.data else "~"
            line = (before if sign == "-" else after).line((key,))
            yield FileChange(sign, "setting", key, "; ".join(words), file, line)


def _leaf_words(before: Document, after: Document, path: KeyPath) -> Iterator[str]:
    """Yield a text for each value below ``path`` that differs."""
    old, new = dict(_leaves(before.at(path))), dict(_leaves(after.at(path)))
    for leaf in dict.fromkeys([*new, *old]):
        if old.get(leaf, ...) == new.get(leaf, ...):
            continue
        name = dotted(leaf) or "value"
        if any(SECRET.search(str(part)) for part in (*path, *leaf)):
            yield f"{name} is changed" if leaf in old else f"{name} is set"
        elif leaf not in old:
            yield f"{name} {_value(after, (*path, *leaf))}"
        else:
            value = _value(after, (*path, *leaf)) if leaf in new else _NOTHING
            yield f"{name} {_value(before, (*path, *leaf))} → {value}"


def _leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield each value that is not a mapping. A list of plain values is one value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif value is not None:
        yield path, value


def _value(document: Document, path: KeyPath) -> str:
    value = document.at(path)
    if isinstance(value, list):
        return ", ".join(_plain(document, (*path, index)) for index in range(len(value))) or "none"
    return _plain(document, path)


def _plain(document: Document, path: KeyPath) -> str:
    """Return a value, with the names of variables instead of their values."""
    text = document.shown(path)
    # A password in a URL must not be shown.
    return re.sub(r"//([^/\s:@]*):[^@\s/]*@", r"//\1:•••@", text.strip("'") if text[:1] == "'" else text)
