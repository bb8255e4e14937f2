"""What a run under faults came to, for people and for programs."""

from __future__ import annotations

import bisect
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.client import Answer
from tests.chaos.plan import Planned


@dataclass
class Injected:
    """A fault that was planned, and how it went."""

    planned: Planned
    #: When it began, in seconds since the epoch, and for how many seconds it was at work.
    at: float
    took: float = 0.0
    #: Why it could not be injected; nothing where it was.
    missed: str = ""


@dataclass
class Outcome:
    """All that is known of a run."""

    seed: int
    database: str
    seconds: float
    rate: float
    orders: int = 0
    answers: Sequence[Answer] = ()
    #: When the last e-mail of each order was committed, in seconds since the epoch.
    done: dict[str, float] = field(default_factory=dict)
    faults: list[Injected] = field(default_factory=list)
    #: Seconds until all was as it should be once orders and faults had ended; None where it never was.
    settled: float | None = None
    verdict: dict[str, Any] = field(default_factory=dict)
    ledger: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and not self.verdict.get("violations", ["not judged"])


class Recovery:
    """How soon after a moment orders were taken, and done, again."""

    def __init__(self, outcome: Outcome) -> None:
        taken = sorted((one.at - one.took, one) for one in outcome.answers if one.status == 202)
        self._began = [began for began, _ in taken]
        self._taken = [one for _, one in taken]
        self._done = outcome.done

    def after(self, moment: float) -> tuple[float | None, float | None]:
        """Seconds until the first 202 to a request that began later, and until the first order of those was done."""
        later = self._taken[bisect.bisect_left(self._began, moment) :]
        # Those soon after tell it: later ones are later done.
        near = later[:200]
        taken = min((one.at - moment for one in near), default=None)
        done = min((self._done[one.order_id] - moment for one in near if one.order_id in self._done), default=None)
        return taken, done


def by_kind(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Each kind of fault: how often it came, how often it was missed, and how soon things went on."""
    recovery, found = Recovery(outcome), defaultdict(list)
    for one in outcome.faults:
        found[one.planned.kind].append(one)
    rows = {}
    for kind, faults in sorted(found.items()):
        times = [recovery.after(one.at) for one in faults if not one.missed]
        taken = [one for one, _ in times if one is not None]
        done = [one for _, one in times if one is not None]
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
    """The run as plain values."""
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
        "done_seconds": _quantiles(_waits(outcome)),
        "faults": by_kind(outcome),
        "injected": [[round(one.at, 3), one.planned.kind, one.planned.seconds, one.missed] for one in outcome.faults],
        "settled": outcome.settled,
        "checked": outcome.verdict,
        "ledger": outcome.ledger,
        "problems": outcome.problems,
    }


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
    """The run for people."""
    data, figures = as_json(outcome), outcome.verdict.get("figures", {})
    answers = ", ".join(
        f"{count:,} x {status if status != '0' else 'none'}" for status, count in data["answers"].items()
    )
    lines = [
        f"seed {outcome.seed}, {outcome.database}, {outcome.rate:g} orders/s for {outcome.seconds:g} s",
        f"orders     {outcome.orders:,}, of which {figures.get('accepted', 0):,} were answered 202 in the end",
        f"answers    {answers}",
        f"202 after  {_shown(data['answer_seconds'])}",
        f"done after {_shown(data['done_seconds'])}, from the 202 to the last e-mail",
        f"effects    {figures.get('charges', 0):,} charges, {figures.get('emails', 0):,} e-mails,"
        f" {figures.get('points', 0):,} points; {figures.get('poison', 0)} bad messages",
        "",
        f"{'fault':<20}{'times':>6}{'missed':>8}   next 202 after      next order done after (median, longest)",
    ]
    for kind, row in data["faults"].items():
        taken = f"{_seconds(row['taken_median'])} {_seconds(row['taken_longest'])}"
        done = f"{_seconds(row['done_median'])} {_seconds(row['done_longest'])}"
        lines.append(f"{kind:<20}{row['count']:>6}{row['missed']:>8}   {taken:<20}{done}")
    lines.append("")
    if outcome.settled is not None:
        lines.append(f"all was done {outcome.settled:.1f} s after the last order")
    lines += [f"NOT AS IT SHOULD BE: {one}" for one in (*outcome.verdict.get("violations", []), *outcome.problems)]
    if outcome.holds:
        lines.append("nothing was lost, and nothing happened twice")
    return "\n".join(lines)


def _shown(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f} s" for name, value in found.items()) or "-"


def _seconds(value: float | None) -> str:
    return "      -" if value is None else f"{value:6.2f} s"
