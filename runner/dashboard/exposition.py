"""The metrics of a system for Prometheus.

Names and units follow Prometheus' rules (https://prometheus.io/docs/practices/naming/). No metric has a label for a
process, and the supervisor adds the counters of exited processes, so that counters grow across restarts of workers.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector as MetricSource

from runner import __version__
from runner.dashboard.system_sample import SystemSample
from runner.ipc.step_memory import BOUNDS
from runner.supervisor.slot_lifecycle import SlotState

#: The counters of messages by service and queue: the name, the kinds of steps that it counts, and its description.
_MESSAGES = (
    ("handled", ("handled",), "Messages that a handler finished, and that the worker acknowledged."),
    ("failed", ("retried", "dead_lettered", "rejected"), "Failed attempts. A message can fail several times."),
    ("retried", ("retried",), "Messages that were sent to a retry queue after a failed attempt."),
    ("dead_lettered", ("dead_lettered", "rejected"), "Messages that were sent to the dead-letter queue by a worker."),
)  # fmt: skip
#: The histograms by service and queue: the name, the field of a slot, and the description.
_TIMES = (
    ("handler_seconds", "handler_time", "Run time of the handler in each attempt, in seconds."),
    (
        "queue_wait_seconds",
        "queue_time",
        "Time from the publishing of a message to its first attempt, in seconds. Retries are not included.",
    ),
)
#: The gauges of queues: the name, the figure in a frame, and the description.
_QUEUES = (
    ("ready_messages", "ready", "Ready messages in the queue."),
    ("retry_messages", "retry", "Messages that wait in the retry queues of the queue for their next attempt."),
    ("dead_letters", "dead", "Messages in the dead-letter queue of the queue."),
    ("unroutable_messages", "unrouted", "Messages in a queue of an alternate exchange, which no binding matched."),
    ("consumers", "consumers", "Consumers of the queue."),
)
#: The gauges of slots: the name, the field of a slot, the factor to the base unit, and the description.
_SLOTS = (
    ("in_flight_messages", "in_hand", 1.0, "Unacked messages and unconfirmed events of the slot."),
    ("memory_bytes", "memory", 1.0, "Resident memory of the slot's processes, in bytes."),
    ("cpu_ratio", "cpu_percent", 0.01, "CPU time that the slot's processes use, as a share of one core."),
)


def exposition(sample: SystemSample, accept: str) -> tuple[bytes, str]:
    """Return the metrics as text, and the media type of the text.

    ``accept`` is the Accept header of the request, which chooses between Prometheus' text format and OpenMetrics.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SampleMetrics(sample))
    write, media_type = choose_encoder(accept)
    return write(registry), media_type


class SampleMetrics(MetricSource):
    """The metrics of one sample, which the client's registry reads."""

    def __init__(self, sample: SystemSample) -> None:
        self._sample = sample
        snapshot = sample.snapshot or {}
        #: The slots that exist, one entry for each process.
        self._slots: list[Mapping[str, Any]] = snapshot.get("slots", [])
        #: The objects with counters: the slots, and the slots that were removed when their service was scaled down.
        self._counted = [*self._slots, *snapshot.get("removed_slots", [])]
        self._instances: Mapping[str, int] = snapshot.get("services", {})

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        info = {"version": __version__, "python_version": platform.python_version()}
        yield InfoMetricFamily("fastcommerce_build", "Version of FastCommerce and of Python.", value=info)
        is_up = self._sample.snapshot is not None
        yield _gauge("supervisor_up", "1 if the supervisor answers, otherwise 0.", is_up)
        yield _gauge(
            "broker_up", "1 if the broker reports the counts of the queues, otherwise 0.", self._sample.is_broker_up
        )
        yield from self._messages()
        yield self._events()
        yield from self._times()
        yield from self._slot_metrics()
        yield from self._queue_metrics()

    def _messages(self) -> Iterator[Metric]:
        for name, kinds, text in _MESSAGES:
            # A series that begins with 0 shows its first increase.
            totals = {(service, queue): 0 for service, queues in self._consumed().items() for queue in queues}
            for slot in self._counted:
                for kind, queue, _, count, *_ in slot["edges"]:
                    if kind in kinds:
                        key = slot["service"], queue
                        totals[key] = totals.get(key, 0) + count
            family = CounterMetricFamily(f"fastcommerce_messages_{name}", text, labels=("service", "queue"))
            for labels, total in totals.items():
                family.add_metric(labels, total)
            yield family

    def _consumed(self) -> Mapping[str, Sequence[str]]:
        return {name: queues for name, queues in self._sample.consumed.items() if name in self._instances}

    def _events(self) -> Metric:
        totals: dict[tuple[str, str, str], int] = {}
        for slot in self._counted:
            for kind, exchange, _, count, *types in slot["edges"]:
                if kind == "published":
                    key = slot["service"], exchange, "".join(types)
                    totals[key] = totals.get(key, 0) + count
        family = CounterMetricFamily(
            "fastcommerce_events_published", "Events that the broker confirmed.", labels=("service", "exchange", "type")
        )
        for labels, total in totals.items():
            family.add_metric(labels, total)
        return family

    def _times(self) -> Iterator[Metric]:
        for name, field, text in _TIMES:
            buckets: dict[tuple[str, str], list[int]] = {}
            sums: dict[tuple[str, str], float] = {}
            for slot in self._counted:
                for queue, times in slot[field].items():
                    key = slot["service"], queue
                    counts = times["buckets"]
                    buckets[key] = [sum(pair) for pair in zip(buckets.get(key, [0] * len(counts)), counts, strict=True)]
                    sums[key] = sums.get(key, 0.0) + times["sum"]
            family = HistogramMetricFamily(f"fastcommerce_{name}", text, labels=("service", "queue"))
            for labels, counts in buckets.items():
                bounds = [*map(str, BOUNDS), "+Inf"]
                family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), sums[labels])
            yield family

    def _slot_metrics(self) -> Iterator[Metric]:
        instances = GaugeMetricFamily(
            "fastcommerce_service_instances", "Instances that the service should have.", labels=("service",)
        )
        for service, count in self._instances.items():
            instances.add_metric((service,), count)
        yield instances
        # During a rollout, the new process has no slot of its own yet.
        slots = [one for one in self._slots if one["role"] == "holder"]
        names = ("service", "slot")
        restarts = CounterMetricFamily(
            "fastcommerce_restarts", "Restarts after an exit of the slot's process.", labels=names
        )
        up = GaugeMetricFamily(
            "fastcommerce_slot_up", "1 if the slot is RUNNING without a problem, otherwise 0.", labels=names
        )
        state = GaugeMetricFamily(
            "fastcommerce_slot_state", "1 for the state of the slot, and 0 for all others.", labels=(*names, "state")
        )
        for slot in slots:
            labels = slot["service"], slot["slot"]
            restarts.add_metric(labels, slot["restarts"])
            up.add_metric(labels, slot["state"] == SlotState.RUNNING and not slot["problem"])
            for one in SlotState:
                state.add_metric((*labels, str(one)), slot["state"] == one)
        yield from (restarts, up, state)
        for name, field, factor, text in _SLOTS:
            family = GaugeMetricFamily(f"fastcommerce_slot_{name}", text, labels=names)
            for slot in slots:
                if slot[field] is not None:
                    family.add_metric((slot["service"], slot["slot"]), round(slot[field] * factor, 6))
            yield family

    def _queue_metrics(self) -> Iterator[Metric]:
        missing = GaugeMetricFamily(
            "fastcommerce_queue_missing", "1 if the broker has no such queue, otherwise 0.", labels=("queue",)
        )
        for queue, figures in self._sample.queues.items():
            # The broker does not report a queue whose node is down.
            if figures.get("missing") or figures["ready"] is not None:
                missing.add_metric((queue,), bool(figures.get("missing")))
        yield missing
        for name, figure, text in _QUEUES:
            family = GaugeMetricFamily(f"fastcommerce_queue_{name}", text, labels=("queue",))
            for queue, figures in self._sample.queues.items():
                if figures.get(figure) is not None:
                    family.add_metric((queue,), figures[figure])
            yield family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"fastcommerce_{name}", text, value=value)
