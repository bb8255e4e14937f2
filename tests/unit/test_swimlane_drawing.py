"""The drawing of a swimlane: no label touches another label or another bar of its track."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from runner.dashboard.row_parts import SMALL, DrawnText
from runner.dashboard.swimlane_drawing import LEFT, WIDTH, SwimlaneDrawing, draw
from runner.history.records import AttemptRow, EventRow
from runner.history.swimlane_builder import swimlane_of
from runner.topology.picture.text_width import width_of
from tests.recorded import QUEUE, T0, attempt, created, event, history

OUTCOMES = ("retried", "retried", "retried", "dead_lettered")


def rows(seed: int) -> tuple[list[EventRow], list[AttemptRow]]:
    """Return a random order: retries, dead letters, replays, and several messages in one queue."""
    draw_ = random.Random(seed)
    events, tries = [created()], list[AttemptRow]()
    for number in range(draw_.randint(1, 4)):
        queue, at = f"{'a.long.name.of.a.queue.' * draw_.randint(0, 3)}queue.{number % 2}", draw_.randint(0, 40)
        if number:
            events.append(event(f"e{number}", f"kind.{number}", at, app_id=draw_.choice(["order_api", "payment"])))
        message, failures = "c" if not number else f"e{number}", draw_.randint(0, 4)
        for attempt_ in range(1, failures + 2):
            outcome = OUTCOMES[attempt_ - 1] if attempt_ <= failures else draw_.choice(["handled", "duplicate"])
            took, delay = draw_.choice([0, 1, 30, 400]), draw_.choice([100, 1000, 30_000])
            about = {"queue": queue, "service": f"service_{number}", "message_id": message, "delay": delay}
            times = {"sent_at": T0 + at, "ended_at": T0 + at + took}
            tries.append(attempt(attempt_, at, outcome, **about, **times))
            at += took + delay + draw_.choice([0, 3, 2000])
            if outcome == "dead_lettered":
                break
    return events, tries


def extent(one: DrawnText) -> tuple[float, float]:
    width = width_of(one.text, SMALL)
    left = {"start": one.x, "middle": one.x - width / 2, "end": one.x - width}[one.anchor]
    return left, left + width


def collisions(drawing: SwimlaneDrawing) -> list[str]:
    found = list[str]()
    labels = [(one, text) for one in drawing.bars for text in one.texts]
    for number, (owner, text) in enumerate(labels):
        left, right = extent(text)
        if left < LEFT - 8 or right > WIDTH:
            found.append(f"{text.text!r} leaves the axis")
        for _, other in labels[number + 1 :]:
            begin, end = extent(other)
            if abs(other.y - text.y) < 10 and left < end and begin < right:
                found.append(f"{text.text!r} touches {other.text!r}")
        for bar in drawing.bars:
            is_beside = bar is not owner and text.kind == "beside" and bar.y < text.y < bar.y + bar.height + 4
            if is_beside and left < bar.x + bar.width and bar.x < right:
                found.append(f"{text.text!r} is on {bar.label!r}")
    axis = sorted(map(extent, drawing.axis_texts))
    found += [f"labels of the axis at {one[0]:.0f}" for one, other in pairwise(axis) if one[1] > other[0]]
    return found


@pytest.mark.parametrize("is_folded", [True, False])
@pytest.mark.parametrize("seed", range(25))
def test_no_label_touches_another(seed: int, is_folded: bool) -> None:
    events, tries = rows(seed)
    drawing = draw(swimlane_of(history(events, tries)), is_folded=is_folded)
    assert collisions(drawing) == []
    assert all(one.x >= LEFT - 6 and one.x + one.width <= WIDTH - 10 and one.width > 0 for one in drawing.bars)
    assert all(one.y > 0 and one.y + one.height < drawing.height for one in drawing.bars)


def test_a_long_attempt_says_its_slot_and_time_and_a_short_one_is_labelled_beside() -> None:
    tries = [
        attempt(1, 3, "retried", sent_at=T0), attempt(2, 1060, sent_at=T0 + 53),
        attempt(1, 8, queue="mail", service="mail", instance="mail.1", sent_at=T0, ended_at=T0 + 10),
    ]  # fmt: skip
    drawing = draw(swimlane_of(history([created()], tries)), is_folded=True)
    texts = [[text.text for text in one.texts] for one in drawing.bars if one.kind in ("retried", "handled")]
    assert texts == [["Attempt 1, mail.1, 2 ms"], ["Attempt 1, payment.2", "50 ms"], ["Attempt 2, payment.2", "50 ms"]]
    assert [(one.service.text, one.queue.text) for one in drawing.rows] == [
        ("order_api", "started the order"), ("mail", "mail"), ("payment", QUEUE),
    ]  # fmt: skip


def test_a_line_leads_from_the_event_to_each_copy() -> None:
    drawing = draw(swimlane_of(history([created()], [attempt(1, 3, sent_at=T0)])), is_folded=True)
    ((x, top, bottom),) = drawing.lines
    assert (x, top < bottom) == (LEFT, True)


def test_a_cut_name_is_given_as_a_whole_in_a_title() -> None:
    name = "warehouse.reporting.monthly.statistics.of.orders"
    drawing = draw(swimlane_of(history([created()], [attempt(1, 3, queue=name)])), is_folded=True)
    assert drawing.rows[1].queue.text != name
    assert drawing.rows[1].title == f"payment {name}"
