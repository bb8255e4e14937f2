"""The report of a run with injected faults, as text and as JSON."""

from __future__ import annotations

import bisect
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.client import Answer
from tests.chaos.plan import Planned

#: Seconds after a fault in which its effects may still show.
AFTER = 10.0


@dataclass
class Injected:
    """A planned fault, and its result."""

    planned: Planned
    #: The start in seconds since the epoch, and the duration in seconds.
    at: float
    took: float = 0.0
    #: The reason if the fault could not be injected; otherwise empty.
    missed: str = ""


@dataclass
class Outcome:
    """All results of a run."""

    seed: int
    database: str
    seconds: float
    rate: float
    orders: int = 0
    answers: Sequence[Answer] = ()
    #: By order: the time of the commit of its last e-mail, in seconds since the epoch.
    done: dict[str, float] = field(default_factory=dict)
    faults: list[Injected] = field(default_factory=list)
    #: Seconds between the end of all orders and faults and the first correct verdict; None if the verdict was never
    #: correct.
    settled: float | None = None
    verdict: dict[str, Any] = field(default_factory=dict)
    ledger: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Return True if nothing is wrong."""
        return not self.problems and not self.verdict.get("violations", ["not judged"])


class Gaps:
    """The longest pauses around faults. A pause during two overlapping faults counts for both."""

    def __init__(self, outcome: Outcome) -> None:
        doors: dict[int, list[float]] = defaultdict(list)
        for one in outcome.answers:
            if one.status == 202:
                doors[one.port].append(one.at)
        #: The times of accepted orders, by port.
        self._taken = [sorted(times) for times in doors.values()]
        self._done = [sorted(outcome.done.values())]

    def around(self, fault: Injected) -> tuple[float, float]:
        """Return the longest time without a 202 at one of the ports, and the longest time without a finished order."""
        begin, end = fault.at, fault.at + fault.took + AFTER
        return _longest(self._taken, begin, end), _longest(self._done, begin, end)


def _longest(series: Sequence[Sequence[float]], begin: float, end: float) -> float:
    """Return the longest time between two neighbours of a series that overlaps the time from ``begin`` to ``end``."""
    longest = 0.0
    for times in series:
        first = max(1, bisect.bisect_left(times, begin))
        last = bisect.bisect_left(times, end)
        gaps = (times[i] - times[i - 1] for i in range(first, min(last + 1, len(times))))
        longest = max(longest, max(gaps, default=0.0))
    return longest


def by_kind(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Return for each kind of fault how often it was injected, how often it was missed, and the pauses around it."""
    gaps, found = Gaps(outcome), defaultdict(list)
    for one in outcome.faults:
        found[one.planned.kind].append(one)
    rows = {}
    for kind, faults in sorted(found.items()):
        times = [gaps.around(one) for one in faults if not one.missed]
        taken, done = [one for one, _ in times], [one for _, one in times]
        rows[kind] = {
            "count": len(times),
            "missed": len(faults) - len(times),
            "taken_median": round(statistics.median(taken), 3) if taken else None,
            "taken_longest": round(max(taken), 3) if taken else None,
            "done_median": round(statistics.median(done), 3) if done else None,
            "done_longest": round(max(done), 3) if done else None,
        }
    return rows


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the run as plain values."""
    statuses = Counter(str(one.status) for one in outcome.answers)
    return {
        "seed": outcome.seed,
        "database": outcome.database,
        "seconds": outcome.seconds,
        "rate": outcome.rate,
        "holds": outcome.holds,
        "orders": outcome.orders,
        "answers": dict(sorted(statuses.items())),
        "answer_seconds": _quantiles([one.took for one in outcome.answers if one.status == 202]),
        "taken_seconds": _quantiles(_accept_times(outcome)),
        "done_seconds": _quantiles(_waits(outcome)),
        "faults": by_kind(outcome),
        "injected": [[round(one.at, 3), one.planned.kind, one.planned.seconds, one.missed] for one in outcome.faults],
        "settled": outcome.settled,
        "checked": outcome.verdict,
        "ledger": outcome.ledger,
        "problems": outcome.problems,
    }


def _accept_times(outcome: Outcome) -> list[float]:
    """Return the seconds from the first request of each order to its 202."""
    began: dict[str, float] = {}
    taken: dict[str, float] = {}
    for one in outcome.answers:
        began[one.key] = min(began.get(one.key, one.at), one.at - one.took)
        if one.status == 202:
            taken[one.key] = min(taken.get(one.key, one.at), one.at)
    return [at - began[key] for key, at in taken.items()]


def _waits(outcome: Outcome) -> list[float]:
    taken = {one.order_id: one.at for one in outcome.answers if one.status == 202}
    return [max(0.0, outcome.done[order] - at) for order, at in taken.items() if order in outcome.done]


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    ranked = sorted(values)
    shares = {"p50": 0.5, "p99": 0.99, "longest": 1.0}
    return {name: round(ranked[min(len(ranked) - 1, int(share * len(ranked)))], 3) for name, share in shares.items()}


def as_text(outcome: Outcome) -> str:
    """Return the report as text."""
    data, figures = as_json(outcome), outcome.verdict.get("figures", {})
    answers = ", ".join(
        f"{count:,} x {status if status != '0' else 'no answer'}" for status, count in data["answers"].items()
    )
    lines = [
        f"seed {outcome.seed}, {outcome.database}, {outcome.rate:g} orders/s for {outcome.seconds:g} s",
        f"orders     {outcome.orders:,}, of which {figures.get('accepted', 0):,} were finally answered 202",
        f"answers    {answers}",
        f"202 after  {_shown(data['answer_seconds'])}",
        f"accepted   {_shown(data['taken_seconds'])}, from an order's first request to its 202",
        f"done       {_shown(data['done_seconds'])}, from the 202 to the commit of the last e-mail",
        f"effects    {figures.get('charges', 0):,} charges, {figures.get('emails', 0):,} e-mails,"
        f" {figures.get('points', 0):,} points; {figures.get('poison', 0)} bad messages",
        "",
        f"longest time without a 202 at one port, and without a finished order, up to {AFTER:g} s after a fault:",
        f"{'fault':<20}{'times':>6}{'missed':>8}   {'no 202: median, longest':<25}none done: median, longest",
    ]
    for kind, row in data["faults"].items():
        taken = f"{_seconds(row['taken_median'])} {_seconds(row['taken_longest'])}"
        done = f"{_seconds(row['done_median'])} {_seconds(row['done_longest'])}"
        lines.append(f"{kind:<20}{row['count']:>6}{row['missed']:>8}   {taken:<25}{done}")
    lines.append("")
    if outcome.settled is not None:
        lines.append(f"all orders were done {outcome.settled:.1f} s after the last one")
    lines += [f"VIOLATION: {one}" for one in (*outcome.verdict.get("violations", []), *outcome.problems)]
    if outcome.ledger:
        lines.append(f"ledger: {outcome.ledger.strip().splitlines()[-1]}")
    if outcome.holds:
        lines.append("nothing was lost, and nothing happened twice")
    return "\n".join(lines)


def _shown(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f} s" for name, value in found.items()) or "-"


def _seconds(value: float | None) -> str:
    return "      -" if value is None else f"{value:6.2f} s"
