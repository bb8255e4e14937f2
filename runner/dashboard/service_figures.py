"""The figures of each service in a frame, from the counters of its slots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runner.dashboard.page_text import duration, rate
from runner.dashboard.sample_window import SampleWindow

#: The states of a slot from the worst to the best. A service shows the worst state of its slots.
WORST_FIRST = ("FATAL", "BACKOFF", "WAITING", "STARTING", "STOPPING", "RUNNING", "EXITED", "STOPPED")
#: The counters of one service: handled messages, published events, and the number and the seconds of attempts.
Counters = tuple[int, int, int, float]
_NONE: Counters = (0, 0, 0, 0.0)


class ServiceFigures:
    """The figures of all services over the last seconds."""

    def __init__(self) -> None:
        self._window: SampleWindow[dict[str, Counters]] = SampleWindow()

    def of(
        self,
        time: float,
        instances: Mapping[str, int],
        slots: Sequence[Mapping[str, Any]],
        removed: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, dict[str, Any]]:
        """Return the figures of each service, as the picture shows them.

        ``time`` is in seconds of a monotonic clock. ``removed`` are the counters of slots that no longer exist, so that
        the counters of a service never fall.
        """
        by_service = {name: [one for one in slots if one["service"] == name] for name in instances}
        counted = {
            name: [*found, *(one for one in removed if one["service"] == name)] for name, found in by_service.items()
        }
        after = {name: _counters(found) for name, found in counted.items()}
        span, before = self._window.add(time, after)
        differences = {
            # A counter is lower than before only after a restart of the supervisor.
            name: [max(0, new - old) for new, old in zip(counters, before.get(name, _NONE), strict=True)]
            for name, counters in after.items()
        }
        return {
            name: _figures(instances[name], found, max(1.0, span), differences[name], after[name])
            for name, found in by_service.items()
        }


def _figures(
    instances: int, slots: Sequence[Mapping[str, Any]], span: float, differences: Sequence[float], totals: Counters
) -> dict[str, Any]:
    handled, published, attempts, seconds = differences
    # A service without queues has only published events.
    count = handled if totals[0] or not totals[1] else published
    return {
        "instances": f"\N{MULTIPLICATION SIGN}{instances}",
        "count": instances,
        "state": state_of(one["state"] for one in slots).lower(),
        "rate": f"{rate(count / span)}/s",
        "handled_rate": round(handled / span, 1),
        "published_rate": round(published / span, 1),
        "in_flight": sum(one.get("in_hand") or 0 for one in slots),
        "handler_time": duration(seconds / attempts) if attempts else duration(None),
    }


def state_of(states: Iterable[str]) -> str:
    """Return the worst of some states of slots, or ``STOPPED`` if there is no slot."""
    return min(states, key=WORST_FIRST.index, default="STOPPED")


def _counters(slots: Sequence[Mapping[str, Any]]) -> Counters:
    handled = published = attempts = 0
    seconds = 0.0
    for slot in slots:
        for kind, _, _, count, *_ in slot.get("edges", ()):
            handled += count if kind == "handled" else 0
            published += count if kind == "published" else 0
        for times in (slot.get("handler_time") or {}).values():
            attempts += times["count"]
            seconds += times["sum"]
    return handled, published, attempts, seconds
