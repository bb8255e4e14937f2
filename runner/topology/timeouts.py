"""The consistency of service timeouts in config.yaml with queue timeouts in topology.yaml."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from runner.config.argument import LONGEST_TIMER
from runner.config.config_file import ServiceSettings
from runner.config.topology_file import Topology
from runner.config.value import format_duration
from runner.config.version import CONSUMER_TIMEOUT
from runner.topology.compile import CONSUMER_TIMEOUT_KEY, path_of, policy_name
from runner.topology.effective_settings import Policies
from runner.topology.finding import Finding
from runner.topology.live import Live
from runner.topology.model import Objects, Policy, Queue, RetryDelays

#: The seconds that may pass between the end of a handler and the acknowledgement, because of confirms and a slow
#: database.
_SLACK = 600.0
_FOREVER = LONGEST_TIMER / 1000


def acknowledgement_time(service: ServiceSettings) -> float:
    """Return the maximum time in seconds that a service needs to acknowledge a message after its delivery.

    RabbitMQ measures the time from the delivery (RabbitMQ: "Consumers", acknowledgement timeout). The result therefore
    includes the time that a prefetched message waits in the worker.
    """
    if not service.handler_timeout:
        return _FOREVER
    turns = math.ceil(service.prefetch * max(1, len(service.consumes)) / service.concurrency)
    return min(service.handler_timeout * turns + _SLACK, _FOREVER)


def acknowledgement_times(services: Mapping[str, ServiceSettings]) -> dict[str, float]:
    """Return the acknowledgement time of each queue whose services may need longer than RabbitMQ's default."""
    found: dict[str, float] = {}
    for service in services.values():
        seconds = acknowledgement_time(service)
        for queue in service.consumes:
            if seconds > CONSUMER_TIMEOUT:
                found[queue] = max(seconds, found.get(queue, 0.0))
    return found


def shortest_timeouts(
    names: Iterable[str], objects: Objects, services: Mapping[str, ServiceSettings]
) -> dict[str, float]:
    """Return the shortest possible ``consumer_timeout`` of each queue in seconds, if known.

    If the services of a queue need longer than RabbitMQ's default, the timeout is at least the default. The timeout of
    any other queue is set in the broker's own configuration, unless topology.yaml sets the timeout.
    """
    policies, longer = Policies(objects.policies), acknowledgement_times(services)
    queues, found = {one.name: one for one in objects.queues}, dict[str, float]()
    for name in names:
        said = policies.settings_of(queues[name]).get(CONSUMER_TIMEOUT_KEY) if name in queues else None
        if isinstance(said, int) and said > 0:
            found[name] = said / 1000
        elif name in longer:
            found[name] = CONSUMER_TIMEOUT
    return found


def short_consumer_timeout(name: str, service: ServiceSettings) -> str | None:
    """Return a warning if a message may exceed the consumer timeout of a broker whose policies cannot set this timeout.

    Prefetched messages are included only if config.yaml sets ``handler_timeout``, because its default serves only to
    detect hung workers.
    """
    limit = f"exceeds {format_duration(CONSUMER_TIMEOUT)}, RabbitMQ's default consumer_timeout"
    if not service.consumes:
        return None
    if not 0 < service.handler_timeout < CONSUMER_TIMEOUT:
        said = f"handler_timeout {_said(service.handler_timeout)}"
        return (
            f"service {name!r}: {said} {limit}; a handler that runs longer loses its channel, and its message is"
            " delivered again"
        )
    needed = acknowledgement_time(service)
    if "handler_timeout" not in service.model_fields_set or needed <= CONSUMER_TIMEOUT:
        return None
    return (
        f"service {name!r}: handler_timeout {_said(service.handler_timeout)} with prefetch {service.prefetch} allows"
        f" {_said(needed)}, which {limit}; lower prefetch, or messages that wait too long are delivered again"
    )


def with_longer_timeouts(objects: Objects, live: Live, topology: Topology) -> Objects:
    """Return ``objects`` with the broker's consumer timeouts for queues whose timeout on the broker is longer.

    Services in another config.yaml may need the longer timeout, and two systems must not endlessly undo each other's
    changes. No service needs a timeout below RabbitMQ's default.
    """
    policies = {policy_name("queue", one.name): one.name for one in objects.queues}

    def kept(policy: Policy) -> Policy:
        there = live.policies.get(policy.name)
        queue = policies.get(policy.name)
        if there is None or queue is None:
            return policy
        theirs, ours = there.definition.get(CONSUMER_TIMEOUT_KEY), policy.definition.get(CONSUMER_TIMEOUT_KEY, 0)
        is_written = queue in topology.queues and CONSUMER_TIMEOUT_KEY in topology.queues[queue].policy
        is_written = is_written or any(CONSUMER_TIMEOUT_KEY in one.definition for one in topology.policies.values())
        if is_written or not isinstance(theirs, int) or theirs <= max(ours, round(CONSUMER_TIMEOUT * 1000)):
            return policy
        return replace(policy, definition={**policy.definition, CONSUMER_TIMEOUT_KEY: theirs})

    return replace(objects, policies=tuple(kept(one) for one in objects.policies))


def misfits(
    topology: Topology,
    services: Mapping[str, ServiceSettings],
    objects: Objects,
    settings: Mapping[str, Mapping[str, Any]],
) -> Iterator[Finding]:
    """Yield a finding for each pair of contradictory timeouts. ``settings`` contains the settings of all queues."""
    for name, service in services.items():
        yield from _of_service(name, service, objects, settings, topology)
    waiting = {wait: delay for retry in objects.retry_delays.values() for delay, wait in retry.steps}
    dead_letter_queues = {retry.dead_letter for retry in objects.retry_delays.values()}
    for queue in objects.queues:
        if queue.name in waiting:
            yield from _of_retry_queue(queue, waiting[queue.name], settings[queue.name], topology)
        elif queue.name in dead_letter_queues:
            yield from _of_dead_letters(queue, settings[queue.name], topology)


def _of_service(
    name: str,
    service: ServiceSettings,
    objects: Objects,
    settings: Mapping[str, Mapping[str, Any]],
    topology: Topology,
) -> Iterator[Finding]:
    restart = service.backoff.max + service.start_timeout
    queues = {one.name: one for one in objects.queues}
    for queue in service.consumes:
        said = settings.get(queue, {})
        path = path_of(queues[queue], topology) if queue in queues else ("queues",)
        if (timeout := _seconds(said.get(CONSUMER_TIMEOUT_KEY))) is not None:
            needed = acknowledgement_time(service)
            if timeout < needed:
                reason = (
                    f"{name} may take {_said(needed)} to acknowledge a message from {queue!r} (handler_timeout"
                    f" {_said(service.handler_timeout)}, prefetch {service.prefetch}), but the queue's"
                    f" consumer-timeout is {_said(timeout)}, so the message is delivered again"
                )
                yield Finding("consumer-timeout", queue, "topology.yaml", path, reason)
        for key, fate in (
            ("expires", "is deleted with its messages"),
            ("message-ttl", "drops or dead-letters its messages"),
        ):
            time = _seconds(said.get(key))
            if time is not None and time < restart:
                reason = (
                    f"{queue!r} {fate} after {_said(time)} ({key}), but a restart of {name} may take"
                    f" {_said(restart)} (backoff.max and start_timeout)"
                )
                yield Finding("outlived-by-restart", queue, "topology.yaml", path, reason)
        yield from _of_inbox(name, service, queue, objects.retry_delays.get(queue))
    stated = service.model_fields_set
    if {"stop_timeout", "handler_timeout"} <= stated and service.handler_timeout > service.stop_timeout:
        reason = (
            f"{name} is killed {_said(service.stop_timeout)} after a stop request (stop_timeout), but one message may"
            f" take {_said(service.handler_timeout)} (handler_timeout), so the message is delivered again"
        )
        yield Finding("stop-timeout", name, "config.yaml", ("services", name, "stop_timeout"), reason)


def _of_inbox(name: str, service: ServiceSettings, queue: str, retry: RetryDelays | None) -> Iterator[Finding]:
    if service.inbox is None or retry is None:
        return
    needed = sum(delay for delay, _ in retry.steps) + service.handler_timeout * (len(retry.steps) + 1)
    if service.inbox.retention < needed:
        reason = (
            f"{name} remembers a message for {_said(service.inbox.retention)} (inbox.retention), but all attempts"
            f" for a message from {queue!r} may take {_said(needed)} (retry and handler_timeout), so a duplicate would"
            " be handled again"
        )
        yield Finding("inbox-forgets", name, "config.yaml", ("services", name, "inbox"), reason)


def _of_retry_queue(queue: Queue, delay: float, said: Mapping[str, Any], topology: Topology) -> Iterator[Finding]:
    path = path_of(queue, topology)
    if (expires := _seconds(said.get("expires"))) is not None:
        reason = (
            f"a policy deletes the retry queue {queue.name!r} with its messages after {_said(expires)} (expires),"
            f" but messages wait there for {_said(delay)}"
        )
        yield Finding("expiring-retry-queue", queue.name, "topology.yaml", path, reason)


def _of_dead_letters(queue: Queue, said: Mapping[str, Any], topology: Topology) -> Iterator[Finding]:
    for key in ("expires", "message-ttl"):
        if (time := _seconds(said.get(key))) is not None:
            reason = f"dead letters in {queue.name!r} are dropped after {_said(time)} ({key})"
            yield Finding("expiring-dead-letters", queue.name, "topology.yaml", path_of(queue, topology), reason)


def _seconds(milliseconds: object) -> float | None:
    is_number = isinstance(milliseconds, int) and not isinstance(milliseconds, bool)
    return int(str(milliseconds)) / 1000 if is_number else None


def _said(seconds: float) -> str:
    return format_duration(seconds) if seconds and seconds < _FOREVER else "forever"
