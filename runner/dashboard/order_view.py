"""The values that the pages about orders show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from runner.dashboard.step_detail import default_step, step_detail, step_rows
from runner.dashboard.swimlane_drawing import MOST_BARS, draw
from runner.history.access import clock, prefix_length
from runner.history.entries import duration
from runner.history.order_history import OrderHistory
from runner.history.order_list import Position
from runner.history.order_summary import OrderSummary, facts_of, open_work, summarize
from runner.history.records import DEAD_LETTERED
from runner.history.swimlane import Swimlane
from runner.invocation import invocation
from runner.messages import ACCEPTED, FAILED

#: A function that escapes a text for the page, and masks personal data if the option is on.
Shown = Callable[[Any], Any]
#: The maximum number of steps in the table of one order.
MOST_STEPS = 500
#: The number of characters of an order id in a heading.
SHORT = 8


@dataclass(frozen=True)
class OrderCells:
    """One order as texts: the cells of the list, or the heading of its page."""

    order_id: str
    short: str
    url: str
    #: The mark, the class of the color, and the word of the status.
    mark: str
    level: str
    status: str
    started: str
    decided: str
    amount: str
    email: str
    open_work: str


@dataclass(frozen=True)
class TimeShare:
    """A part of the bar that compares waiting with work."""

    kind: str
    mark: str
    level: str
    time: str
    text: str
    #: The position and the width in a bar of 1000 pixels, and the part in percent.
    x: float
    width: float
    percent: int


def list_rows(orders: Sequence[OrderSummary], shown: Shown) -> list[OrderCells]:
    """Return the rows of the list."""
    length = prefix_length([one.order_id for one in orders])
    return [order_cells(one, shown, length) for one in orders]


def order_cells(one: OrderSummary, shown: Shown, length: int = SHORT) -> OrderCells:
    """Return the texts of an order, with ``length`` characters of its id."""
    mark, level = _state(one)
    return OrderCells(
        order_id=shown(one.order_id),
        short=shown(one.order_id[:length]),
        url=order_url(one.order_id),
        mark=mark,
        level=level,
        status=one.status.capitalize(),
        started=started_text(one.started),
        decided="" if one.decided is None else duration(one.decided),
        amount=shown(shortened(" ".join(text for text in (one.amount, one.currency) if text))),
        email=_address(one.email or "", shown),
        open_work=open_work(one),
    )


def shortened(text: str, most: int = 40) -> str:
    """Return at most ``most`` characters of a text."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _address(email: str, shown: Shown) -> str:
    """Return an address as a whole, or masked as a whole, even if it is not a valid address."""
    is_masked = shown("a@b.example") != "a@b.example"
    return f"{email[:1]}•••@•••" if is_masked and email else str(shown(email))


def _state(one: OrderSummary) -> tuple[str, str]:
    if one.status == FAILED:
        return "dead", "bad"
    if one.status == ACCEPTED:
        return "wait", "accent"
    # By convention, event types for failures end with .failed.
    return ("stop", "warn") if (one.decided_by or "").endswith(".failed") else ("run", "ok")


def started_text(milliseconds: int) -> str:
    """Return a time as text, without the date if it is today."""
    text = clock(milliseconds, "%Y-%m-%d %H:%M:%S").partition(".")[0]
    return text.removeprefix(f"{datetime.now().date()} ")


def order_url(order_id: str) -> str:
    """Return the URL of an order's page."""
    return f"/orders/{quote(order_id, safe='')}"


def list_url(text: str = "", status: str = "", before: Position | None = None) -> str:
    """Return the URL of a list of orders."""
    given = {"q": text, "status": status, "before": "" if before is None else str(before)}
    query = urlencode({name: value for name, value in given.items() if value})
    return f"/orders?{query}" if query else "/orders"


def list_line(text: str, status: str, *, is_address: bool) -> str:
    """Return the command line that lists the same orders. ``is_address`` is True if the text is no order id."""
    if text and not is_address:
        return invocation("order", "history", text)
    address = ["--email", text] if text else []
    return invocation("order", "list", *(["--status", status] if status else []), *address)


def order_view(
    history: OrderHistory, swimlane: Swimlane, shown: Shown, *, step: int | None, tab: str, is_folded: bool
) -> dict[str, Any]:
    """Return the values of an order's page. ``step`` is the selected step, and None means the default."""
    first = min(history.events, key=lambda one: (one.published_at, one.id), default=None)
    started = history.entries[0].at
    cells = order_cells(summarize(history, started, facts_of("" if first is None else first.body)), shown)
    rows = step_rows(history)
    number = step if step is not None and step < len(rows) else default_step(history)
    detail = shown_of(step_detail(history, number), shown)
    tabs = ["payload", "headers", *(["error"] if detail.error else [])]
    bars = sum(len(row.bars) for row in swimlane.rows)
    return {
        "history": history,
        "order": cells,
        "reason": shown(reason_of(history)),
        "shares": shares_of(history),
        "line": shown(invocation("order", "history", history.order_id)),
        "drawing": draw(shown_swimlane(swimlane, shown), is_folded=is_folded) if bars <= MOST_BARS else None,
        "is_folded": is_folded,
        "steps": [replace(one, text=shown(one.text), slot=shown(one.slot)) for one in rows[:MOST_STEPS]],
        "more_steps": max(0, len(rows) - MOST_STEPS),
        "selected": number,
        "detail": detail,
        "tabs": tabs,
        "tab": tab if tab in tabs else "payload",
        "query": _query,
    }


def _query(step: int | None = None, tab: str = "", is_folded: bool = True) -> str:
    """Return the query of an order's page. The defaults are left out."""
    given = {"step": "" if step is None else str(step), "tab": "" if tab == "payload" else tab}
    given["scale"] = "" if is_folded else "true"
    return "?" + urlencode({name: value for name, value in given.items() if value})


def shown_of(one: Any, shown: Shown) -> Any:
    """Return a copy of a dataclass with all its texts masked."""
    return replace(one, **{name: _all_shown(value, shown) for name, value in vars(one).items()})


def _all_shown(value: Any, shown: Shown) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_all_shown(one, shown) for one in value)
    return shown(value)


def shown_swimlane(swimlane: Swimlane, shown: Shown) -> Swimlane:
    """Return a swimlane with all its texts escaped and masked."""
    rows = [
        replace(
            row,
            service=shown(row.service),
            queue=shown(row.queue),
            bars=[replace(one, text=shown(one.text), sentence=shown(one.sentence)) for one in row.bars],
            marks=[replace(one, text=shown(one.text)) for one in row.marks],
        )
        for row in swimlane.rows
    ]
    return replace(swimlane, rows=rows)


def shares_of(history: OrderHistory) -> list[TimeShare]:
    """Return the parts of an order's time: retry delays, queues, handlers and dead-letter queues."""
    totals = history.totals
    parts = [
        ("retry", "retry", "warn", totals.delayed, "waiting for a retry"),
        ("queued", "queue", "soft", max(0, totals.waited - totals.delayed), "ready in queues"),
        ("handled", "run", "ok", totals.handled, "in handlers"),
        ("dead", "dead", "bad", totals.dead_lettered, "as a dead letter"),
    ]
    whole = sum(time for *_, time, _ in parts)
    # A part that took time is visible, even if it is short.
    widths = [0.0 if not time else max(4.0, 1000 * time / whole) for *_, time, _ in parts]
    scale, x, found = 1000 / (sum(widths) or 1), 0.0, list[TimeShare]()
    for (kind, mark, level, time, text), width in zip(parts, widths, strict=True):
        if time or kind in ("queued", "handled"):
            percent = round(100 * time / whole) if whole else 0
            found.append(TimeShare(kind, mark, level, duration(time), text, x, width * scale, percent))
            x += width * scale
    return found


def reason_of(history: OrderHistory) -> str:
    """Return the sentences that explain why the order took its time, or still waits."""
    failed = [one for one in history.attempts if one.outcome in ("retried", DEAD_LETTERED)]
    counts, errors = Counter(one.service for one in failed), {one.service: one.error for one in failed}
    words = [
        f"{service} failed {'once' if count == 1 else 'twice' if count == 2 else f'{count} times'}: {errors[service]}."
        for service, count in counts.items()
    ]
    words += [
        f"{one.message_type or 'A message'} waits for its next attempt, due at {started_text(one.due)}."
        for one in history.waiting
    ]
    words += [f"{one.message_type or 'A message'} is a dead letter of {one.queue}." for one in history.dead_lettered]
    return " ".join(words[:4])
