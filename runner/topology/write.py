"""The conversion of broker objects to a readable topology.yaml with shorthand keys."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from runner.config.argument import (
    EXCHANGE_POLICY_KEYS,
    QUEUE_ARGUMENTS,
    QUEUE_POLICY_KEYS,
    QUEUE_TYPE,
)
from runner.config.cross_checks import GENERATED, UNKNOWN_ARGUMENT
from runner.config.error_detail import misspelt
from runner.config.exchange_type import arguments_of
from runner.config.queue_policy import limits_of_unread
from runner.config.value import MAX_NAME_BYTES, format_duration, retry_queue_name
from runner.config.version import QUORUM
from runner.escape import escaped_yaml
from runner.topology.compile import dead_letter_settings, policy_name, retry_queue
from runner.topology.effective_settings import Policies
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*|[1-9][0-9]*(ms|s|m|h|d)")
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
#: The maximum line length of a mapping on one line. A longer mapping has one line per key.
_LINE = 100
#: The length above which a key needs the ``?`` indicator. YAML's limit is 1024 characters, including escapes.
_LONGEST_KEY = 1000
#: The number of bytes of a long queue name that are included in the name of its dead-letter queue.
_KEPT_BYTES = 200


def write_topology(objects: Objects) -> str:
    """Return the text of a topology.yaml that compiles to these objects."""
    writer = _Writer(objects)
    sections: dict[str, Any] = {
        "exchanges": {one.name: writer.exchange(one) for one in objects.exchanges},
        "queues": {one.name: writer.queue(one) for one in objects.queues if one.name not in writer.implied},
        "bindings": [_binding(one) for one in objects.bindings if one.key not in writer.shorthand],
        "policies": {one.name: _policy(one) for one in objects.policies if not one.name.startswith(GENERATED)},
    }
    if accepted := sorted(writer.accepted):
        sections["lint"] = {"ignore": {UNKNOWN_ARGUMENT: accepted}}
    lines = ["# yaml-language-server: $schema=docs/schema/topology.json"]
    lines.append(f"defaults: {write_flow({'durable': True, 'queue_type': writer.queue_type})}")
    for section, content in sections.items():
        if content:
            lines += ["", f"{section}:", *block(content, 1)]
    return "\n".join(lines) + "\n"


class _Writer:
    def __init__(self, objects: Objects) -> None:
        self._generated = {one.name: one for one in objects.policies if one.name.startswith(GENERATED)}
        self._own = Policies(one for one in objects.policies if not one.name.startswith(GENERATED))
        self._queues = {one.name: one for one in objects.queues}
        self._exchanges, self._policies = objects.exchanges, objects.policies
        counted = Counter(one.type for one in objects.queues)
        self.queue_type = counted.most_common(1)[0][0] if counted else "quorum"
        #: The keys of the bindings that are written under ``bind``.
        self.shorthand: set[object] = set()
        self._bind: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for one in objects.bindings:
            if one.destination_type == "queue" and not one.arguments:
                self._bind[one.destination][one.source].append(one.routing_key)
                self.shorthand.add(one.key)
        self._retry_delays = {
            one.name: retry for one in objects.queues if (retry := self._retry_delays_of(one)) is not None
        }
        #: The queues that ``retry`` and ``dead_letter`` of other queues generate.
        self.implied: set[str] = set()
        for name, (delays, dead_letter) in self._retry_delays.items():
            self.implied |= {retry_queue_name(name, delay) for delay in delays}
            there = self._queues.get(dead_letter)
            if there is not None and there.durable and there.arguments == {QUEUE_TYPE: "classic"}:
                self.implied |= (
                    set() if dead_letter in self._bind or dead_letter in self._retry_delays else {dead_letter}
                )

    @property
    def accepted(self) -> set[str]:
        """The unknown names that ``check`` accepts only if ``lint.ignore`` lists them, as they may be misspelled."""
        found = _alike((key, QUEUE_ARGUMENTS) for one in self._queues.values() for key in one.arguments)
        found |= _alike((key, arguments_of(one.type)) for one in self._exchanges for key in one.arguments)
        known = {**EXCHANGE_POLICY_KEYS, **QUEUE_POLICY_KEYS}
        return found | {key for one in self._policies for key in one.definition if key not in known}

    def exchange(self, one: Exchange) -> dict[str, Any]:
        generated = self._settings("exchange", one)
        return _without_defaults(
            type=one.type,
            durable=None if one.durable else False,
            auto_delete=one.auto_delete,
            internal=one.internal,
            alternate_exchange=generated.get("alternate-exchange"),
            arguments=dict(one.arguments),
        )

    def queue(self, one: Queue) -> dict[str, Any]:
        settings = self._settings("queue", one)
        delays, dead_letter = self._retry_delays.get(one.name, ([], None))
        if dead_letter is not None:
            settings = {
                key: value for key, value in settings.items() if key not in dead_letter_settings(one.type, dead_letter)
            }
        if one.type == QUORUM and limits_of_unread({**self._own.settings_of(one), **settings})[0]:
            # This quorum queue gets the dead-letter queue NAME.dlq by default.
            usual = f"{one.name}.dlq"
            if dead_letter == usual:
                dead_letter = None
            elif dead_letter is None and len(usual.encode()) > MAX_NAME_BYTES:
                dead_letter = _short_name(one.name)
        return _without_defaults(
            type=None if one.type == self.queue_type else one.type,
            durable=None if one.durable else False,
            auto_delete=one.auto_delete,
            bind={source: list(keys) for source, keys in self._bind[one.name].items()},
            retry=[format_duration(delay) for delay in delays],
            dead_letter=dead_letter,
            policy=settings,
            arguments={key: value for key, value in one.arguments.items() if key != QUEUE_TYPE},
        )

    def _settings(self, kind: str, one: Exchange | Queue) -> dict[str, Any]:
        """Return the settings in a generated policy that are not from one of the user's own policies."""
        policy = self._generated.get(policy_name(kind, one.name))
        if policy is None:
            return {}
        own = self._own.applying(one)
        said = own.definition if own is not None else {}
        return {key: value for key, value in policy.definition.items() if key not in said or said[key] != value}

    def _retry_delays_of(self, one: Queue) -> tuple[list[float], str] | None:
        policy = self._generated.get(policy_name("queue", one.name))
        dead_letter = policy.definition.get("dead-letter-routing-key") if policy is not None else None
        if policy is None or not isinstance(dead_letter, str) or dead_letter not in self._queues:
            return None
        if not dead_letter_settings(one.type, dead_letter).items() <= policy.definition.items():
            return None
        delays = sorted(
            there.arguments["x-message-ttl"] / 1000
            for name, there in self._queues.items()
            if name.startswith(f"{one.name}.retry.") and isinstance(there.arguments.get("x-message-ttl"), int)
        )
        exact = [d for d in delays if self._queues.get(retry_queue_name(one.name, d)) == retry_queue(one, d)]
        return exact, dead_letter


def _alike(keys: Iterable[tuple[str, Mapping[str, Any]]]) -> set[str]:
    return {key for key, known in keys if key not in {*known, QUEUE_TYPE} and misspelt(key, known) is not None}


def _short_name(queue: str) -> str:
    """Return the dead-letter queue's name for a queue whose name is too long for the suffix ``.dlq``."""
    data = queue.encode()
    return f"{data[:_KEPT_BYTES].decode(errors='ignore')}.{hashlib.sha256(data).hexdigest()[:16]}.dlq"


def _binding(one: Binding) -> dict[str, Any]:
    return _without_defaults(
        source=one.source,
        destination=one.destination,
        destination_type=None if one.destination_type == "queue" else one.destination_type,
        routing_key=one.routing_key,
        arguments=dict(one.arguments),
    )


def _policy(one: Policy) -> dict[str, Any]:
    return {
        "pattern": one.pattern,
        **({} if one.apply_to == "queues" else {"apply_to": one.apply_to}),
        **({} if one.priority == 0 else {"priority": one.priority}),
        "definition": dict(one.definition),
    }


def _without_defaults(**values: Any) -> dict[str, Any]:
    # None, "", [], {} and False are the defaults of all keys except durable.
    return {key: value for key, value in values.items() if value or (key == "durable" and value is False)}


def block(content: Mapping[str, Any] | list[Any], depth: int) -> Iterable[str]:
    """Yield YAML with one line per key, indented by ``depth`` levels."""
    indent = "  " * depth
    between = f"\n{indent}"
    if isinstance(content, list):
        yield from (f"{indent}- {write_flow(item)}" for item in content)
        return
    for key, value in content.items():
        line = f"{indent}{_pair(key, write_flow(value), between)}"
        if len(line) <= _LINE or not isinstance(value, dict) or not value:
            yield line
        else:
            yield f"{indent}{_pair(key, '', between).rstrip()}"
            yield from block(value, depth + 1)


def write_flow(value: Any, dollar: str = "$$") -> str:
    """Return a value as YAML on one line. ``dollar`` replaces dollar signs, which would start a variable."""
    if isinstance(value, dict):
        pairs = (_pair(key, write_flow(one, dollar), " ") for key, one in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(write_flow(one, dollar) for one in value) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    # A JSON string is also valid YAML, except for characters that YAML forbids or treats as line breaks.
    return escaped_yaml(json.dumps(value, ensure_ascii=False)).replace("$", dollar)


def _pair(key: str, value: str, between: str) -> str:
    # Variables are expanded only in values. A long key needs the ``?`` indicator (YAML 1.2.2, 7.4.2).
    text = write_flow(key, "$")
    return f"{text}: {value}" if len(text) <= _LONGEST_KEY else f"? {text}{between}: {value}"
