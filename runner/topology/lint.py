"""What is allowed in topology.yaml and most likely a mistake; found offline, with what services publish and read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.config.fault import Path, one_of
from runner.config.settings import Service, template_words
from runner.config.topology import PREDEFINED_EXCHANGES, Topology
from runner.config.version import CLASSIC, NEWEST, TRANSIENT_QUEUES, dotted
from runner.topology.compatibility import conflicts
from runner.topology.compile import compile_topology
from runner.topology.effect import Policies, applies
from runner.topology.flow import Flow
from runner.topology.live import Live
from runner.topology.model import Binding
from runner.topology.place import path_of
from runner.topology.timeouts import misfits

_DOCS = "https://www.rabbitmq.com/docs/"


@dataclass(frozen=True)
class Rule:
    """A kind of finding: how it is mended, and where RabbitMQ's documentation says more."""

    remedy: str
    link: str


RULES = {
    "unroutable-key": Rule("bind a queue to it, or do not publish it", f"{_DOCS}publishers#unroutable"),
    "only-alternate": Rule("bind a queue to it, if a service should get it", f"{_DOCS}ae"),
    "unmatched-binding": Rule("mend the key, or take the binding out", f"{_DOCS}exchanges"),
    "unread-queue": Rule("let a service consume it, or take it out", f"{_DOCS}queues"),
    "dead-letter-nowhere": Rule("bind a queue for it, or name another exchange", f"{_DOCS}dlx"),
    "retry-nowhere": Rule("let it return to a queue that is there", f"{_DOCS}ttl"),
    "dead-letter-cycle": Rule(
        "let one of them end in a queue that a person reads", f"{_DOCS}dlx#automatic-dead-letter-cycles"
    ),
    "hidden-policy": Rule("put all keys into one policy, or let them match different names", f"{_DOCS}policies"),
    "unused-exchange": Rule("publish to it or bind something, or take it out", f"{_DOCS}exchanges"),
    "consumer-timeout": Rule(
        "raise it, or lower prefetch or handler_timeout", f"{_DOCS}consumers#acknowledgement-timeout"
    ),
    "outlived-by-restart": Rule("give the queue a longer time, or none", f"{_DOCS}ttl"),
    "stop-timeout": Rule("raise stop_timeout, or lower handler_timeout", f"{_DOCS}consumers"),
    "inbox-forgets": Rule("raise inbox.keep", f"{_DOCS}confirms"),
    "expiring-wait-queue": Rule("let the policy match other names", f"{_DOCS}ttl#queue-ttl"),
    "expiring-dead-letters": Rule("let the policy match other names", f"{_DOCS}ttl"),
    "transient-queue": Rule("make it durable", f"{_DOCS}queues#transient-queues"),
    "removed-setting": Rule("take it out", f"{_DOCS}upgrade"),
    "unused-silence": Rule("mend it or take it out", ""),
}


@dataclass(frozen=True)
class Finding:
    """One thing that looks like a mistake."""

    code: str
    #: What it is about: the name by which ``silence`` takes it.
    name: str
    #: Where in which file.
    file: str
    path: Path
    reason: str

    @property
    def rule(self) -> Rule:
        """Its kind."""
        return RULES[self.code]


def lint(topology: Topology, services: Mapping[str, Service]) -> list[Finding]:
    """All findings that ``silence`` does not take, those of topology.yaml first."""
    found = list(_Linter(topology, services).findings())
    silenced = {(code, name) for code, names in topology.silence.items() for name in names}
    hit = {(one.code, name) for one in found for name in (one.name, "*")}
    kept = [one for one in found if not {(one.code, one.name), (one.code, "*")} & silenced]
    for code, name in sorted(silenced - hit):
        path = ("silence", code, topology.silence[code].index(name))
        known = f"there is no finding {code!r} about {name!r}"
        reason = known if code in RULES else f"there is no code {code!r}: {one_of(code, RULES)}"
        kept.append(Finding("unused-silence", name, "topology.yaml", path, reason))
    return kept


class _Linter:
    def __init__(self, topology: Topology, services: Mapping[str, Service]) -> None:
        self._topology, self._services = topology, services
        consumed = {queue for service in services.values() for queue in service.consumes}
        self._consumed = consumed
        self._objects = compile_topology(topology, consumed)
        self._policies = Policies(self._objects.policies)
        self._flow = Flow(self._objects, services)
        self._settings: dict[str, dict[str, Any]] = {
            one.name: self._policies.settings_of(one) for one in self._objects.queues
        }

    def findings(self) -> Iterator[Finding]:
        yield from self._keys()
        yield from self._bindings()
        yield from self._queues()
        yield from self._cycles()
        yield from self._hidden_policies()
        yield from self._exchanges()
        for one in misfits(self._topology, self._services, self._objects, self._settings):
            yield Finding(one.code, one.name, one.file, one.path, one.reason)
        yield from self._deprecated()

    def _found(self, code: str, name: str, path: Path, reason: str) -> Finding:
        return Finding(code, name, "topology.yaml", path, reason)

    def _keys(self) -> Iterator[Finding]:
        for service, settings in self._services.items():
            for exchange, templates in settings.publishes.items():
                for index, template in enumerate(templates):
                    path = ("services", service, "publishes", exchange, index)
                    reach = self._flow.reach(exchange, template_words(template))
                    said = f"{service} publishes {template!r} to {exchange!r}"
                    if not reach.queues:
                        reason = f"{said}, and no queue gets it: it is returned as unroutable"
                        yield Finding("unroutable-key", template, "config.yaml", path, reason)
                    elif not reach.bound:
                        reason = (
                            f"{said}, and only the alternate exchange takes it, to {', '.join(sorted(reach.queues))}"
                        )
                        yield Finding("only-alternate", template, "config.yaml", path, reason)

    def _bindings(self) -> Iterator[Finding]:
        for binding in self._objects.bindings:
            if binding.key not in self._flow.used and binding.source in self._flow.fed:
                name = f"{binding.source} {binding.routing_key}".strip()
                reason = f"nothing that is published to {binding.source!r} matches {_key(binding)}"
                yield self._found("unmatched-binding", name, path_of(binding, self._topology), reason)

    def _queues(self) -> Iterator[Finding]:
        parking = {self._topology.dead_letter_of(name) for name in self._topology.queues}
        for queue in self._objects.queues:
            settings, path = self._settings[queue.name], path_of(queue, self._topology)
            is_written = queue.name in self._topology.queues
            is_waiting = "message-ttl" in settings and "dead-letter-exchange" in settings
            is_kept = queue.name in parking or queue.name in self._flow.only_parked or queue.type == "stream"
            if is_written and queue.name not in self._consumed and not is_kept and not is_waiting:
                yield self._found(
                    "unread-queue", queue.name, path, f"no service consumes {queue.name!r}: it only grows"
                )
            target = self._flow.dead_letter_route(queue.name)
            if target is not None and not target.queues:
                code = "retry-nowhere" if is_waiting else "dead-letter-nowhere"
                what = "a message that has waited" if is_waiting else "a rejected message"
                reason = f"{what} in {queue.name!r} goes to {target.said}, and no queue gets it there: it is lost"
                yield self._found(code, queue.name, path, reason)

    def _cycles(self) -> Iterator[Finding]:
        seen: set[frozenset[str]] = set()
        for queue in self._objects.queues:
            cycle = self._flow.dead_letter_cycle(queue.name)
            if cycle and frozenset(cycle) not in seen:
                seen.add(frozenset(cycle))
                way = " -> ".join([*cycle, cycle[0]])
                reason = f"dead letters go round: {way}; RabbitMQ drops a message that comes back without a rejection"
                yield self._found("dead-letter-cycle", queue.name, path_of(queue, self._topology), reason)

    def _hidden_policies(self) -> Iterator[Finding]:
        written = [one for one in self._objects.policies if one.name in self._topology.policies]
        things: Sequence[Any] = (*self._objects.exchanges, *self._objects.queues)
        own = Policies(written)
        for policy in written:
            for thing in things:
                winner = own.applying(thing)
                if winner is not None and winner is not policy and applies(policy, thing):
                    reason = f"for {thing.name!r} the policy {winner.name!r} hides {policy.name!r}: only one applies"
                    yield self._found("hidden-policy", policy.name, ("policies", policy.name), reason)
                    break

    def _exchanges(self) -> Iterator[Finding]:
        for name in self._topology.exchanges:
            is_bound = any(name in (one.source, one.destination) for one in self._objects.bindings)
            if name not in self._flow.fed and not is_bound and name not in PREDEFINED_EXCHANGES:
                reason = f"nothing is published to {name!r}, and nothing is bound to it"
                yield self._found("unused-exchange", name, ("exchanges", name), reason)

    def _deprecated(self) -> Iterator[Finding]:
        """Yield the settings that the newest RabbitMQ deprecates or refuses."""
        for queue in self._objects.queues:
            if not queue.durable and queue.type == CLASSIC:
                path = (*path_of(queue, self._topology), "durable")
                since = dotted(TRANSIENT_QUEUES.span.until or NEWEST)
                reason = (
                    f"{queue.name!r} is neither durable nor exclusive, which RabbitMQ deprecates"
                    f" ({TRANSIENT_QUEUES.feature}): some brokers refuse it since {since}"
                )
                yield self._found("transient-queue", queue.name, path, reason)
        newest = Live(version=NEWEST)
        for conflict in conflicts(self._objects, newest, self._topology):
            if conflict.path[-1] != "durable":
                name = str(conflict.path[1])
                yield self._found("removed-setting", name, conflict.path, conflict.text.partition("; take it out")[0])


def _key(binding: Binding) -> str:
    return repr(dict(binding.arguments)) if binding.arguments else repr(binding.routing_key)
