"""Findings about published events, and about the queues and services that get them."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from runner.config.config_file import ServiceSettings, event_type, template_words
from runner.config.error_detail import Path, one_of
from runner.contract import Fields, Terms
from runner.topology.finding import Finding
from runner.topology.flow import Flow, Reach

_FIELD = re.compile(r"\{([^{}]*)\}")
#: The addresses of special host names: localhost (RFC 6761, section 6.3), and the empty name for all addresses.
_HOSTS = {"localhost": "127.0.0.1", "": "0.0.0.0"}
_CONFIG = "config.yaml"
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class _Published:
    """One entry under ``publishes``, with the queues that its events reach."""

    service: str
    template: str
    path: Path
    reach: Reach

    @property
    def event(self) -> str:
        return event_type(self.template)


class Wiring:
    """A comparison of services, based on config.yaml and on the contracts of their plugins."""

    def __init__(self, services: Mapping[str, ServiceSettings], terms: Mapping[str, Terms], flow: Flow) -> None:
        self._services, self._terms = services, terms
        self._published = [
            _Published(
                name, template, ("services", name, "publishes", exchange, index),
                flow.reach(exchange, template_words(template)),
            )
            for name, service in services.items()
            for exchange, templates in service.publishes.items()
            for index, template in enumerate(templates)
        ]  # fmt: skip

    def findings(self) -> Iterator[Finding]:
        """Yield the findings about config.yaml."""
        yield from self._events()
        yield from self._fields()
        yield from self._shared_queues()
        yield from self._own_events()
        yield from self._unhandled()
        yield from self._missed()
        yield from self._recorded()
        yield from self._addresses()

    def _consumers(self, queue: str) -> list[tuple[str, Path]]:
        return [
            (name, ("services", name, "consumes", service.consumes.index(queue)))
            for name, service in self._services.items()
            if queue in service.consumes
        ]

    def _events(self) -> Iterator[Finding]:
        for one in self._published:
            terms = self._terms.get(one.service)
            if terms is not None and one.event not in terms.publishes:
                advice = f"{one_of(one.event, terms.publishes)}" if terms.publishes else ""
                reason = f"{one.service} never publishes {one.event!r}"
                yield Finding("unknown-event", one.template, _CONFIG, one.path, reason, advice)

    def _fields(self) -> Iterator[Finding]:
        for one in self._published:
            fields = self._fields_of(one.service, one.event)
            if fields is None or fields.is_open:
                continue
            for name in _FIELD.findall(one.template):
                if name not in fields.names:
                    reason = f"{one.event!r} from {one.service} has no field {name!r}"
                    advice = one_of(name, fields.names)
                    yield Finding("unknown-field", one.template, _CONFIG, one.path, reason, advice)

    def _fields_of(self, service: str, event: str) -> Fields | None:
        terms = self._terms.get(service)
        return None if terms is None else terms.publishes.get(event)

    def _shared_queues(self) -> Iterator[Finding]:
        for queue in dict.fromkeys(queue for service in self._services.values() for queue in service.consumes):
            consumers = self._consumers(queue)
            plugins = {self._services[name].plugin or name for name, _ in consumers}
            if len(plugins) > 1:
                names = " and ".join(name for name, _ in consumers)
                reason = f"{names} consume the same queue {queue!r}, so each message goes to only one of them"
                yield Finding("shared-queue", queue, _CONFIG, consumers[-1][1], reason)

    def _own_events(self) -> Iterator[Finding]:
        for name, service in self._services.items():
            for queue in service.consumes:
                own = [one for one in self._published if one.service == name and queue in one.reach.queues]
                if own:
                    events = _listed(one.template for one in own)
                    reason = f"{name} publishes {events} and gets its own messages back through {queue!r}"
                    yield Finding("own-events", queue, _CONFIG, own[0].path, reason)

    def _unhandled(self) -> Iterator[Finding]:
        for one in self._published:
            for queue in sorted(one.reach.queues):
                for name, path in self._consumers(queue):
                    terms = self._terms.get(name)
                    if terms is None or terms.handles is None or name == one.service:
                        continue
                    if one.event not in terms.handles:
                        known = ", ".join(sorted(terms.handles)) or "nothing"
                        reason = (
                            f"{name} does not handle {one.event!r}, which {queue!r} gets from {one.service}"
                            f" ({name} handles {known})"
                        )
                        yield Finding("unhandled-event", queue, _CONFIG, path, reason)
                    else:
                        yield from self._lacking(one, name, path, terms.handles[one.event])

    def _lacking(self, one: _Published, name: str, path: Path, needed: Fields | None) -> Iterator[Finding]:
        given = self._fields_of(one.service, one.event)
        if needed is None or given is None or given.is_open:
            return
        if lacking := sorted(needed.required - given.names):
            fields = ", ".join(map(repr, lacking))
            reason = f"{one.event!r} from {one.service} lacks {fields}, which {name} requires"
            yield Finding("missing-field", one.event, _CONFIG, path, reason)

    def _missed(self) -> Iterator[Finding]:
        for name, service in self._services.items():
            missed: dict[str, list[str]] = {}
            for event in self._handled_by(name) if service.consumes else ():
                sources = [one for one in self._published if one.event == event and one.service != name]
                if sources and not any(one.reach.queues & {*service.consumes} for one in sources):
                    missed.setdefault(sources[0].service, []).append(event)
            queues = " or ".join(map(repr, service.consumes))
            for source, events in missed.items():
                pronoun = "it" if len(events) == 1 else "them"
                reason = f"{name} handles {_listed(events)}, but no binding routes {pronoun} from {source} to {queues}"
                yield Finding("missed-event", name, _CONFIG, ("services", name, "consumes"), reason)

    def _handled_by(self, service: str) -> list[str]:
        terms = self._terms.get(service)
        return [] if terms is None or terms.handles is None else sorted(terms.handles)

    def _recorded(self) -> Iterator[Finding]:
        recorders = {name for name, terms in self._terms.items() if terms.handles is None}
        handled = {event for name in self._services for event in self._handled_by(name)}
        for one in self._published:
            known = self._terms.get(one.service)
            if one.event in handled or (known is not None and one.event not in known.publishes):
                continue  # another finding reports this event
            readers = {name for queue in one.reach.queues for name, _ in self._consumers(queue)}
            others = {queue for queue in one.reach.bound if not self._consumers(queue)}
            if readers and readers <= recorders and not others:
                names, verb = " and ".join(sorted(readers)), "records" if len(readers) == 1 else "record"
                said = f"{one.service} publishes {one.template!r}"
                reason = f"{said}, but the event reaches only {names}, which {verb} every event"
                yield Finding("only-recorded", one.template, _CONFIG, one.path, reason)

    def _addresses(self) -> Iterator[Finding]:
        listening = [(name, host, port) for name, terms in self._terms.items() for host, port in terms.listens if port]
        for (first, host, port), (second, other, same) in itertools.combinations(listening, 2):
            if port == same and first != second and _may_meet(host, other):
                path = ("services", second, "options", "port")
                yield Finding("same-address", second, _CONFIG, path, f"{first} and {second} both listen on port {port}")


def _may_meet(host: str, other: str) -> bool:
    """Return True if two hosts may be the same address on this machine. Host names are not resolved."""
    first, second = _address(host), _address(other)
    return first == second or any(isinstance(one, _Address) and one.is_unspecified for one in (first, second))


def _address(host: str) -> _Address | str:
    name = host.lower()
    try:
        return ipaddress.ip_address(_HOSTS.get(name, name))
    except ValueError:
        return name


def _listed(names: Iterable[str]) -> str:
    return " and ".join(map(repr, names))
