"""The ``lint`` rules, which find probable mistakes in topology.yaml and in the events of services."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.config.config_file import ServiceSettings, template_words
from runner.config.error_detail import Path, one_of
from runner.config.project import Project
from runner.config.topology_file import PREDEFINED_EXCHANGES, Topology
from runner.config.version import CLASSIC, NEWEST, STREAM, TRANSIENT_QUEUES, dotted
from runner.contract import Terms
from runner.topology.compatibility import conflicts, extensions
from runner.topology.compile import compile_topology, path_of
from runner.topology.effective_settings import Policies, applies
from runner.topology.finding import RULES, Finding
from runner.topology.flow import ANY, Flow
from runner.topology.key_suggestion import meant_pattern
from runner.topology.live import Live
from runner.topology.model import Binding, Queue
from runner.topology.offline_routing import alternates_of, routing_types, words_of
from runner.topology.timeouts import misfits
from runner.topology.wiring import Wiring


def lint(
    topology: Topology,
    services: Mapping[str, ServiceSettings],
    terms: Mapping[str, Terms] | None = None,
    trace: str | None = None,
) -> list[Finding]:
    """Return all findings that are not under ``lint.ignore``, grouped by cause.

    ``terms`` contains the contracts of the plugins, by service. ``trace`` is the queue for reports about attempts.
    """
    found = list(_Linter(topology, services, terms or {}, trace).findings())
    ignore = topology.lint.ignore
    ignored = {(code, name) for code, names in ignore.items() for name in names}
    hit = {(one.code, name) for one in found for name in (one.name, "*")}
    kept = [one for one in found if not {(one.code, one.name), (one.code, "*")} & ignored]
    for code, name in sorted(ignored - hit):
        path = ("lint", "ignore", code, ignore[code].index(name))
        known = f"there is no finding {code!r} about {name!r}"
        reason = known if code in RULES else f"there is no code {code!r}: {one_of(code, RULES)}"
        kept.append(Finding("unused-ignore", name, "topology.yaml", path, reason))
    return kept


def findings_of(project: Project) -> list[Finding]:
    """Return the findings about a project whose plugins have been checked."""
    return lint(project.topology, project.config.services, project.terms, project.attempts_queue)


class _Linter:
    def __init__(
        self, topology: Topology, services: Mapping[str, ServiceSettings], terms: Mapping[str, Terms], trace: str | None
    ) -> None:
        self._topology, self._services, self._trace = topology, services, trace
        consumed = {queue for service in services.values() for queue in service.consumes}
        self._consumed = consumed
        self._objects = compile_topology(topology, consumed)
        self._policies = Policies(self._objects.policies)
        self._flow = Flow(self._objects, services)
        self._wiring = Wiring(services, terms, self._flow)
        self._types = routing_types(self._objects)
        self._settings: dict[str, dict[str, Any]] = {
            one.name: self._policies.settings_of(one) for one in self._objects.queues
        }

    def findings(self) -> Iterator[Finding]:
        yield from self._keys()
        yield from self._bindings()
        yield from self._wiring.findings()
        yield from self._queues()
        yield from self._single_active_consumers()
        yield from self._cycles()
        yield from self._hidden_policies()
        yield from self._exchanges()
        yield from misfits(self._topology, self._services, self._objects, self._settings)
        yield from self._deprecated()
        yield from extensions(self._topology)

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
                        reason = f"{said}, but no queue gets these events, so RabbitMQ returns them as unroutable"
                        yield Finding("unroutable-key", template, "config.yaml", path, reason)
                    elif not reach.bound:
                        queues = ", ".join(sorted(reach.queues))
                        reason = f"{said}, but these events reach {queues} only through the alternate exchange"
                        yield Finding("only-alternate", template, "config.yaml", path, reason)

    def _bindings(self) -> Iterator[Finding]:
        for binding in self._objects.bindings:
            kind, path = self._types.get(binding.source, ""), path_of(binding, self._topology)
            name = f"{binding.source} {binding.routing_key}".strip()
            if kind in ("fanout", "headers") and binding.routing_key:
                ignores = f"{binding.source!r} is a {kind} exchange, which ignores the key {binding.routing_key!r}"
                matches = "" if binding.arguments else ", so every message matches"
                yield self._found("ignored-key", name, path, ignores + matches)
            elif binding.key not in self._flow.used and binding.source in self._flow.fed:
                reason = f"no message published to {binding.source!r} matches {_key(binding)}"
                keys = self._flow.keys_at(binding.source)
                if kind == "direct" and {"*", "#"} & {*words_of(binding.routing_key)}:
                    reason += " (on a direct exchange, * and # match only themselves)"
                meant = meant_pattern(binding.routing_key, keys, is_topic=kind == "topic") if keys else None
                advice = "" if meant is None else f"did you mean {meant!r}?"
                yield Finding("unmatched-binding", name, "topology.yaml", path, reason, advice)

    def _queues(self) -> Iterator[Finding]:
        dead_letter_queues = {self._topology.dead_letter_of(name) for name in self._topology.queues}
        fed = {one.destination for one in self._objects.bindings if one.destination_type == "queue"}
        for one in self._objects.queues:
            # Messages from a queue's own retry queue do not count, because they have been in the queue before.
            fed |= {name for name in self._dead_letter_targets(one.name) if not self._is_retry_queue(one.name, name)}
        for queue in self._objects.queues:
            settings, path = self._settings[queue.name], path_of(queue, self._topology)
            is_written = queue.name in self._topology.queues
            is_waiting = "message-ttl" in settings and "dead-letter-exchange" in settings
            is_fallback = queue.name in dead_letter_queues or queue.name in self._flow.only_fallback
            is_kept = is_fallback or queue.type == "stream"
            if is_written and queue.name not in self._consumed and not is_kept and not is_waiting:
                effect = "so the queue only grows" if queue.name in fed else "which has no binding and remains empty"
                yield self._found("unread-queue", queue.name, path, f"no service consumes {queue.name!r}, {effect}")
            if (
                queue.name in self._consumed
                and queue.name not in fed
                and queue.name not in (*dead_letter_queues, self._trace)
            ):
                reason = f"a service consumes {queue.name!r}, but the queue has no binding, so no event reaches it"
                yield self._found("unfed-queue", queue.name, path, reason)
            if queue.name in self._consumed and _drops_oldest(queue, settings):
                reason = (
                    f"when {queue.name!r} is full, RabbitMQ drops the oldest messages before a service handles them"
                )
                yield self._found("drops-oldest", queue.name, path, reason)
            target = self._flow.dead_letter_route(queue.name)
            if target is not None and not target.queues:
                code = "retry-nowhere" if is_waiting else "dead-letter-nowhere"
                what = "an expired message" if is_waiting else "a rejected message"
                reason = f"{what} in {queue.name!r} goes to {target.target}, but reaches no queue, so it is lost"
                yield self._found(code, queue.name, path, reason)

    def _is_retry_queue(self, name: str, queue: str) -> bool:
        retry = self._objects.retry_delays.get(queue)
        return retry is not None and any(name == waiting for _, waiting in retry.steps)

    def _dead_letter_targets(self, queue: str) -> frozenset[str]:
        route = self._flow.dead_letter_route(queue)
        return frozenset() if route is None else route.queues

    def _single_active_consumers(self) -> Iterator[Finding]:
        for queue in self._objects.queues:
            if not self._settings[queue.name].get("single-active-consumer"):
                continue
            path, said = path_of(queue, self._topology), f"{queue.name!r} has a single active consumer"
            for name, service in self._services.items():
                if queue.name in service.consumes and service.concurrency > 1:
                    reason = (
                        f"{said}, but {name} handles {service.concurrency} messages in parallel,"
                        " so their order is not kept"
                    )
                    yield self._found("order-not-kept", queue.name, path, reason)
            if queue.name in self._topology.queues and self._topology.queues[queue.name].retry:
                reason = f"{said}, but retry lets later messages overtake a failed message, so their order is not kept"
                yield self._found("order-not-kept", queue.name, path, reason)

    def _cycles(self) -> Iterator[Finding]:
        seen: set[frozenset[str]] = set()
        for queue in self._objects.queues:
            cycle = self._flow.dead_letter_cycle(queue.name)
            if cycle and frozenset(cycle) not in seen:
                seen.add(frozenset(cycle))
                way = " -> ".join([*cycle, cycle[0]])
                reason = f"dead letters move in a cycle, {way}; RabbitMQ drops messages that return without a rejection"
                yield self._found("dead-letter-cycle", queue.name, path_of(queue, self._topology), reason)

    def _hidden_policies(self) -> Iterator[Finding]:
        written = [one for one in self._objects.policies if one.name in self._topology.policies]
        things: Sequence[Any] = (*self._objects.exchanges, *self._objects.queues)
        own = Policies(written)
        for policy in written:
            for thing in things:
                winner = own.applying(thing)
                if winner is not None and winner is not policy and applies(policy, thing):
                    reason = (
                        f"{winner.name!r} hides {policy.name!r} for {thing.name!r}, because only one policy applies"
                    )
                    yield self._found("hidden-policy", policy.name, ("policies", policy.name), reason)
                    break

    def _exchanges(self) -> Iterator[Finding]:
        alternates = alternates_of(self._objects)
        for name, other in alternates.items():
            if not self._flow.reach(other, ANY).queues:
                reason = (
                    f"messages that match no binding of {name!r} go to its alternate exchange {other!r}, but reach no"
                    " queue and are dropped"
                )
                yield self._found("alternate-nowhere", name, ("exchanges", name, "alternate_exchange"), reason)
        for name in self._topology.exchanges:
            is_bound = any(name in (one.source, one.destination) for one in self._objects.bindings)
            if name not in self._flow.fed and not is_bound and name not in PREDEFINED_EXCHANGES:
                reason = f"no service publishes to {name!r}, and the exchange has no binding"
                yield self._found("unused-exchange", name, ("exchanges", name), reason)

    def _deprecated(self) -> Iterator[Finding]:
        """Yield the settings that the newest RabbitMQ deprecates or refuses."""
        for queue in self._objects.queues:
            if not queue.durable and queue.type == CLASSIC:
                path = self._topology.durable_path(str(path_of(queue, self._topology)[1]))
                since = dotted(TRANSIENT_QUEUES.span.until or NEWEST)
                reason = (
                    f"{queue.name!r} is neither durable nor exclusive; RabbitMQ deprecates such queues"
                    f" ({TRANSIENT_QUEUES.feature}), and some brokers refuse them from version {since} on"
                )
                yield self._found("transient-queue", queue.name, path, reason)
        newest = Live(version=NEWEST)
        for conflict in conflicts(self._objects, newest, self._topology):
            if conflict.path[-1] != "durable":
                name = str(conflict.path[1])
                yield self._found("removed-setting", name, conflict.path, conflict.text.partition("; remove it")[0])


def _drops_oldest(queue: Queue, settings: Mapping[str, Any]) -> bool:
    # drop-head has no effect without a length limit, and is the default with a limit (RabbitMQ: "Queue Length Limit").
    has_limit = "max-length" in settings or "max-length-bytes" in settings
    return queue.type != STREAM and has_limit and settings.get("overflow", "drop-head") == "drop-head"


def _key(binding: Binding) -> str:
    return repr(dict(binding.arguments)) if binding.arguments else repr(binding.routing_key)
