"""Queue statistics from RabbitMQ's HTTP API: counts, rates, and the history of the last few minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runner.admin.management import Management, reported_count
from runner.admin.management_api import ManagementError
from runner.admin.queue_counts import look
from runner.errors import RunnerError
from runner.topology.live import Live

#: The default interval and total time of RabbitMQ's samples, in seconds (RabbitMQ: "Management Plugin").
STEP, HISTORY = 5, 600
#: Seconds until a node that has just started has statistics about a queue.
SILENCE = 15.0
#: The counters of deliveries and acknowledgements that remove a message from a queue.
_REMOVALS = ("ack", "deliver_no_ack", "get_no_ack")
_COLUMNS = (
    "name", "messages", "messages_ready", "messages_unacknowledged", "messages_ready_details.samples",
    "message_stats.publish_details.rate", *(f"message_stats.{name}_details.rate" for name in _REMOVALS),
    "message_stats.deliver_get_details.samples", "message_stats.redeliver_details.samples",
)  # fmt: skip


@dataclass(frozen=True)
class Statistics:
    """The statistics of one queue from the HTTP API, a few seconds old. A value that is not reported is None."""

    messages: int | None = None
    unacked: int | None = None
    #: The rates at which messages are published to the queue and removed from it, in messages per second.
    published: float | None = None
    removed: float | None = None
    #: The samples, oldest first. Each sample contains the time in seconds since the epoch, the number of ready
    #: messages, and the total number of deliveries, excluding redeliveries.
    history: tuple[tuple[float, int, int], ...] = ()


class StatisticsReader:
    """A reader for the statistics of all queues in a vhost."""

    def __init__(self, management: Management) -> None:
        self._management = management
        #: True if the broker computes rates, or None before the first answer.
        self._has_rates: bool | None = None
        #: The time from which the history is complete. For times before its start, a broker reports zeros.
        self._started: float | None = None

    def read(self, now: float) -> dict[str, Statistics]:
        """Return the statistics of all queues by name. ``now`` is in seconds since the epoch.

        Raises ManagementError, including for an answer that does not come from RabbitMQ.
        """
        try:
            return self._read(now)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            text = f"not an answer from RabbitMQ, {type(error).__name__} {error}; another program uses this address"
            raise ManagementError(f"RabbitMQ's HTTP API at {self._management.url}: {text}", is_broken=True) from None

    def _read(self, now: float) -> dict[str, Statistics]:
        if self._has_rates is None:
            overview = self._management.request("GET", "overview", query="?columns=rates_mode,disable_stats")
            self._has_rates = overview.get("rates_mode") != "none" and not overview.get("disable_stats")
        if self._started is None:
            self._started = self._start(now)
        span = f"lengths_age={HISTORY}&lengths_incr={STEP}&msg_rates_age={HISTORY}&msg_rates_incr={STEP}"
        query = f"?{span}&columns={','.join(_COLUMNS)}"
        found = self._management.request("GET", "queues", self._management.vhost, query=query)
        return {str(one["name"]): self._of(one, now) for one in found}

    def _start(self, now: float) -> float | None:
        """Return the time from which the history is complete, or None if the time is not known yet."""
        try:
            nodes = self._management.request("GET", "nodes", query="?columns=uptime")
        except ManagementError as error:
            if error.is_denied:
                return float("inf")  # the user lacks the permission
            raise
        # A node that has just started does not report its uptime.
        uptimes = [one["uptime"] for one in nodes if isinstance(one, dict) and isinstance(one.get("uptime"), int)]
        return now - min(uptimes) / 1000 + SILENCE if uptimes and len(uptimes) == len(nodes) else None

    def _of(self, one: Mapping[str, Any], now: float) -> Statistics:
        ready = reported_count(dict(one), "messages_ready")
        if ready is None or not self._has_rates:
            return Statistics(
                reported_count(dict(one), "messages"), reported_count(dict(one), "messages_unacknowledged")
            )
        stats = one.get("message_stats") or {}
        # A queue without published or delivered messages has no counters.
        rates = {name: float((stats.get(f"{name}_details") or {}).get("rate", 0.0)) for name in ("publish", *_REMOVALS)}
        lengths = _samples(one.get("messages_ready_details"))
        deliveries, again = (_samples(stats.get(f"{name}_details")) for name in ("deliver_get", "redeliver"))
        # The incomplete sample of the current interval has a time after ``now``.
        started = float("inf") if self._started is None else self._started
        times = [time for time in sorted(lengths) if started <= time <= now]
        if deliveries:
            times = [time for time in times if time in deliveries]
        history = [(time, lengths[time], deliveries.get(time, 0) - again.get(time, 0)) for time in times]
        return Statistics(
            reported_count(dict(one), "messages"),
            reported_count(dict(one), "messages_unacknowledged"),
            rates["publish"],
            sum(rates[name] for name in _REMOVALS),
            tuple(history),
        )


def _samples(details: Any) -> dict[float, int]:
    """Return the samples, indexed by time in seconds since the epoch."""
    found = details.get("samples") if isinstance(details, Mapping) else None
    return {one["timestamp"] / 1000: int(one["sample"]) for one in found or ()}


@dataclass(frozen=True)
class MessageCounts:
    """The message counts of one queue."""

    #: The current count from the queue itself.
    ready: int = 0
    #: The count from the statistics, a few seconds old, or None if it is unknown.
    unacked: int | None = 0


def message_counts(url: str, management: Management, queues: Sequence[str]) -> dict[str, MessageCounts]:
    """Return the counts of queues, which are read in the given order. A missing queue has no messages.

    Raises BrokerUnreachable, and RunnerError if the user lacks the permissions for a queue.
    """
    try:
        columns = "?columns=name,messages_unacknowledged"
        found = management.request("GET", "queues", management.vhost, query=columns)
        unacked_of = {str(one["name"]): one.get("messages_unacknowledged") for one in found}
    except ManagementError:
        unacked_of = {}
    _, counts = look([url], list(queues))
    result = {}
    for name, count in counts.items():
        # The statistics do not contain new queues yet. A queue without a consumer has no unacked messages.
        known = unacked_of.get(name)
        unacked = known if known is not None or count is None or count.consumers else 0
        result[name] = MessageCounts() if count is None else MessageCounts(count.messages, unacked)
    return result


def counted_by_queues(live: Live, urls: Sequence[str], names: Sequence[str]) -> Live:
    """Return ``live`` with the counts that the queues ``names`` themselves report.

    The HTTP API reports these queues without counts, or with old counts. A queue itself reports only its ready
    messages. A queue without a consumer has no unacked messages. If a queue with a consumer reports no ready message,
    its count does not change.
    """
    try:
        _, found = look(urls, names, {})
    except RunnerError:
        return live
    queues = dict(live.queues)
    for name in names:
        if (counts := found.get(name)) is not None:
            messages = counts.messages if counts.messages or not counts.consumers else queues[name].messages
            queues[name] = replace(queues[name], messages=messages, consumers=counts.consumers)
    return replace(live, queues=queues)
