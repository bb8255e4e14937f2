"""The swimlane of an order, from invented rows."""

from __future__ import annotations

from typing import Any

from runner.history.order_history import OrderHistory
from runner.history.records import AttemptRow, EventRow
from runner.history.swimlane import BarKind, Swimlane, SwimlaneRow
from runner.history.swimlane_builder import Copies, swimlane_of
from tests.recorded import QUEUE, T0, attempt, created, event, history, success

MAIL = "notification.order.events"
REPLAYED: dict[str, Any] = {"replays": 1, "replayed_at": T0 + 9000, "sent_at": T0 + 9000}


def lanes(events: list[EventRow], attempts: list[AttemptRow], copies: Copies | None = None) -> Swimlane:
    return swimlane_of(history(events, attempts), copies)


def bars(row: SwimlaneRow) -> list[tuple[str, int, int | None]]:
    return [(one.kind.value, one.begin, one.end) for one in row.bars]


def marks(row: SwimlaneRow) -> list[tuple[str, int, str]]:
    return [(one.kind, one.at, one.text) for one in row.marks]


def mail(began: int = 8, **fields: Any) -> AttemptRow:
    about = {"queue": MAIL, "service": "notification", "instance": "notification.1", "sent_at": T0}
    return attempt(1, began, **{**about, "ended_at": T0 + began + 2, **fields})


def test_each_queue_has_a_row_and_the_publisher_has_a_row_without_a_queue() -> None:
    found = lanes([created(), success(53)], [attempt(1, 3, sent_at=T0), mail()])
    assert [(row.service, row.queue) for row in found.rows] == [
        ("order_api", ""), ("notification", MAIL), ("payment", QUEUE),
    ]  # fmt: skip
    assert marks(found.rows[0]) == [("published", 0, "order.created to 2 queues")]
    assert bars(found.rows[1]) == [("queued", 0, 8), ("attempt", 8, 10)]
    assert bars(found.rows[2]) == [("queued", 0, 3), ("attempt", 3, 53)]
    assert marks(found.rows[2]) == [("published", 53, "payment.success")]
    assert (found.end, found.is_open) == (53, False)
    assert [(one.at, one.source, one.target) for one in found.lines] == [(0, 0, 1), (0, 0, 2)]


def test_a_retry_is_split_into_the_delay_and_the_wait_in_the_queue() -> None:
    found = lanes([created()], [attempt(1, 3, "retried", sent_at=T0), attempt(2, 1060, sent_at=T0 + 53)])
    assert bars(found.rows[1]) == [
        ("queued", 0, 3), ("attempt", 3, 53), ("retry", 53, 1053), ("queued", 1053, 1060), ("attempt", 1060, 1110),
    ]  # fmt: skip
    assert [one.text for one in found.rows[1].bars] == [
        "queued 3 ms", "Attempt 1, payment.2", "retry in 1 s", "queued 7 ms", "Attempt 2, payment.2",
    ]  # fmt: skip
    assert found.rows[1].bars[1].sentence == "Attempt 1 on payment.2 failed after 50 ms: gateway timed out"


def test_a_message_that_still_waits_has_a_bar_without_an_end() -> None:
    retried = lanes([created()], [attempt(1, 3, "retried")])
    assert bars(retried.rows[1])[-1] == ("retry", 53, None)
    dead = lanes([created()], [attempt(1, 3, "dead_lettered")])
    assert bars(dead.rows[1])[-1] == ("dead", 53, None)
    assert dead.is_open
    assert (retried.end, dead.end) == (53, 53)


def test_a_replay_ends_the_time_as_a_dead_letter_and_is_a_mark() -> None:
    found = lanes([created()], [attempt(1, 3, "dead_lettered"), attempt(1, 9005, **REPLAYED)])
    assert bars(found.rows[1])[-3:] == [("dead", 53, 9000), ("queued", 9000, 9005), ("attempt", 9005, 9055)]
    assert marks(found.rows[1]) == [("replayed", 9000, "replayed")]
    steps = [*(one.step for one in found.rows[1].bars), *(one.step for one in found.rows[1].marks)]
    assert steps == [1, 1, 2, 3, 3, 2]  # the history: published, dead-lettered, replayed, handled


def test_a_discarded_dead_letter_ends_with_a_mark_in_the_row_of_its_queue() -> None:
    note = attempt(2, 4000, "discarded", service="dlq discard", instance=f"{QUEUE}.dlq", ended_at=T0 + 4000)
    found = lanes([created()], [attempt(1, 3, "dead_lettered"), note])
    assert [(row.service, row.queue) for row in found.rows] == [("order_api", ""), ("payment", QUEUE)]
    assert bars(found.rows[1])[-1] == ("dead", 53, 4000)
    assert marks(found.rows[1]) == [("discarded", 4000, "discarded")]
    assert not found.is_open


def test_messages_that_overlap_in_a_queue_are_on_different_tracks() -> None:
    events = [created(), event("d", "order.changed", 10, app_id="order_api")]
    found = lanes(events, [attempt(1, 3, sent_at=T0), attempt(1, 20, message_id="d", sent_at=T0 + 10)])
    assert found.rows[1].tracks == 2
    assert [one.track for one in found.rows[1].bars if one.kind is BarKind.ATTEMPT] == [0, 1]
    later = lanes(events, [attempt(1, 3, sent_at=T0), attempt(1, 99, message_id="d", sent_at=T0 + 60)])
    assert later.rows[1].tracks == 1


def test_a_copy_without_an_attempt_waits_in_the_queue_of_its_binding() -> None:
    copies = {"c": [("payment", QUEUE), ("notification", MAIL)]}
    found = lanes([created()], [mail()], copies)
    (row,) = (row for row in found.rows if row.queue == QUEUE)
    assert (row.service, bars(row)) == ("payment", [("queued", 0, None)])
    assert row.bars[0].sentence == f"Waits in {QUEUE}, or is being handled: no attempt is recorded yet"
    assert marks(found.rows[0]) == [("published", 0, "order.created to 2 queues")]
    assert len(found.lines) == 2


def test_nothing_precedes_the_start_even_if_the_clocks_differ() -> None:
    found = lanes([created(50)], [attempt(1, 3, sent_at=T0 - 5)])
    assert all(one.begin >= 0 and (one.end is None or one.end >= one.begin) for row in found.rows for one in row.bars)


def test_every_step_of_the_history_is_a_bar_or_a_mark() -> None:
    events = [created(), success(9055), event("x", "order.rejected", 9056, causation_id="p", app_id="")]
    tries = [
        attempt(1, 3, "retried", sent_at=T0), attempt(2, 1100, "dead_lettered"), attempt(1, 9005, **REPLAYED),
        mail(), mail(30, redelivered=True, outcome="duplicate"),
    ]  # fmt: skip
    found_history: OrderHistory = history(events, tries)
    found = swimlane_of(found_history)
    steps = {step for row in found.rows for step in [*(one.step for one in row.bars), *(one.step for one in row.marks)]}
    assert steps == set(range(len(found_history.entries)))


def test_an_order_without_rows_is_an_empty_swimlane() -> None:
    found = lanes([], [])
    assert (list(found.rows), list(found.lines), found.end) == ([], [], 0)
