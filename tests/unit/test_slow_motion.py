"""The moves of an order through the picture of the shipped topology, from invented rows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from runner.config.project import load_project
from runner.contract import Terms
from runner.history.event_routes import EventRoutes
from runner.history.order_history import as_json
from runner.history.records import AttemptRow, EventRow
from runner.history.slow_motion import MotionStep, motion_json, motion_of
from runner.history.swimlane_builder import swimlane_of
from tests.recorded import QUEUE, T0, attempt, event, history
from tests.running import ROOT

RECORDER = Terms({}, {}, (), frozenset({"events", "attempts"}))


@pytest.fixture(scope="module")
def routes() -> EventRoutes:
    return EventRoutes(replace(load_project(ROOT), terms={"audit": RECORDER}))


def created(**fields: Any) -> EventRow:
    return event("c", "order.created", 0, **{"app_id": "order_api", "exchange": "orders.topic", **fields})


def moves(steps: list[MotionStep]) -> list[tuple[str, int, int]]:
    return [(move.edge, move.at, move.duration) for one in steps for move in one.moves]


def test_an_order_moves_along_the_edges_of_the_picture(routes: EventRoutes) -> None:
    success = event("p", "payment.success", 55, causation_id="c", exchange="payments.topic")
    found = motion_of(history([created(), success], [attempt(1, 5, sent_at=T0)]), routes)
    assert moves(found) == [
        ("service order_api>exchange orders.topic", 0, 0),
        (f"exchange orders.topic>queue {QUEUE}", 0, 5),
        ("exchange orders.topic>queue notification.order.events", 0, 0),
        ("exchange orders.topic>queue audit.events", 0, 0),
        (f"queue {QUEUE}>service payment", 5, 50),
        ("service payment>exchange payments.topic", 55, 0),
        ("exchange payments.topic>queue notification.payment.events", 55, 0),
        ("exchange payments.topic>queue audit.events", 55, 0),
    ]


def test_each_move_has_its_reason(routes: EventRoutes) -> None:
    first, second = motion_of(history([created()], [attempt(1, 5, "retried", sent_at=T0)]), routes)
    assert [move.reason for move in (*first.moves[:2], *second.moves)] == [
        "order_api published order.created to orders.topic with the key 'order.created'.",
        f"The binding 'order.created.#' of {QUEUE} matches the key 'order.created'.",
        "payment.2 started attempt 1, 5 ms after it was sent.",
        "Attempt 1 of 4 failed (gateway timed out), so the message waits 1 s in payment.order.created.retry.1s.",
    ]
    assert moves([second]) == [
        (f"queue {QUEUE}>service payment", 5, 50), (f"service payment>retry {QUEUE}", 55, 1000),
    ]  # fmt: skip


def test_a_dead_letter_says_whether_the_message_was_rejected_or_had_no_attempt_left(routes: EventRoutes) -> None:
    def reason(one: AttemptRow) -> tuple[str, str]:
        last = motion_of(history([created()], [one]), routes)[-1].moves[-1]
        return last.edge, last.reason

    edge = f"service payment>dead {QUEUE}"
    assert reason(attempt(2, 5, "dead_lettered")) == (
        edge, "payment rejected the message in attempt 2 (no card), so no retry follows.",
    )  # fmt: skip
    assert reason(attempt(4, 5, "dead_lettered")) == (edge, "Attempt 4 failed (no card), and no retry delay is left.")


def test_a_replay_moves_the_dead_letter_back_to_its_queue(routes: EventRoutes) -> None:
    again = attempt(1, 9005, replays=1, replayed_at=T0 + 9000, sent_at=T0 + 9000)
    found = motion_of(history([created()], [attempt(1, 5, "dead_lettered"), again]), routes)
    assert moves(found)[-3:] == [
        (f"service payment>dead {QUEUE}", 55, 8945),
        (f"dead {QUEUE}>queue {QUEUE}", 9000, 5),
        (f"queue {QUEUE}>service payment", 9005, 50),
    ]
    assert found[2].moves[0].reason == f"A person replayed the dead letter to {QUEUE}, where attempt 1 follows."


def test_an_unroutable_event_moves_to_the_alternate_exchange(routes: EventRoutes) -> None:
    found = motion_of(history([created(routing_key="other")], []), routes)
    assert moves(found) == [
        ("service order_api>exchange orders.topic", 0, 0),
        ("exchange orders.topic>exchange unrouted", 0, 0),
        ("exchange unrouted>queue unrouted.all", 0, 0),
    ]
    assert [move.reason for move in found[0].moves[1:]] == [
        "No binding of orders.topic matches the key 'other', so its alternate exchange gets the message.",
        "unrouted is a fanout exchange, so unrouted.all gets every message.",
    ]


def test_a_queue_that_the_files_no_longer_bind_is_still_reached(routes: EventRoutes) -> None:
    found = motion_of(history([created()], [attempt(1, 5, queue="former", service="former")]), routes)
    assert found[0].moves[-1].edge == "exchange orders.topic>queue former"
    assert found[0].moves[-1].reason == "former got the message, but topology.yaml no longer contains the route."


def test_an_event_of_the_default_exchange_goes_to_the_queue_with_the_name_of_the_key(routes: EventRoutes) -> None:
    found = motion_of(history([created(exchange="", routing_key=QUEUE)], []), routes)
    assert moves(found) == [(f"service order_api>queue {QUEUE}", 0, 0)]


def test_the_steps_are_those_of_the_order_history_in_its_order(routes: EventRoutes) -> None:
    tries = [
        attempt(1, 5, "retried", sent_at=T0),
        attempt(1, 40, queue="notification.order.events", service="notification", ended_at=T0 + 41),
        attempt(2, 1070),
        attempt(3, 2000, "discarded", ended_at=T0 + 1900),
    ]
    found_history = history([created(), event("p", "payment.success", 1120, causation_id="c")], tries)
    found = motion_json(found_history, motion_of(found_history, routes))
    assert [one["text"] for one in found["steps"]] == [one["what"] for one in as_json(found_history)["history"]]
    times = [one["at"] for one in found["steps"]]
    assert times == sorted(times)
    assert json.loads(json.dumps(found)) == found
    assert found["started"] == "2023-11-14T22:13:20.000Z"


def test_copies_to_the_recording_service_are_no_rows_of_the_swimlane(routes: EventRoutes) -> None:
    assert routes.copies(created()) == [("payment", QUEUE), ("notification", "notification.order.events")]
    found_history = history([created()], [])
    found = swimlane_of(found_history, {one.id: routes.copies(one) for one in found_history.events})
    assert {row.service for row in found.rows} == {"order_api", "payment", "notification"}
