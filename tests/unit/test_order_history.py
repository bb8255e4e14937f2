"""The history of an order, from invented rows."""

from __future__ import annotations

import random
from typing import Any

import pytest

from runner.history.order_command import _lines
from runner.history.order_history import OrderHistory, as_json, moment
from tests.recorded import QUEUE, T0, attempt, created, event, history, success


def words(found: OrderHistory) -> list[str]:
    return [entry.what for entry in found.entries]


def kinds(found: OrderHistory) -> list[tuple[str, str]]:
    return [(entry.kind, entry.type) for entry in found.entries]


def test_the_complete_history_of_an_order_that_was_paid_at_the_second_attempt() -> None:
    found = history(
        [success(1200), created()],
        [attempt(2, 1150, sent_at=T0 + 130), attempt(1, 50, "retried", sent_at=T0)],
    )
    assert words(found) == [
        "order.created published by order_api",
        "payment failed to handle order.created on payment.2, attempt 1, waited 50 ms, took 50 ms: gateway timed out;"
        " retry in 1 s",
        "payment handled order.created on payment.2, attempt 2, waited 1.02 s, took 50 ms",
        "payment.success published by payment",
    ]
    assert found.status == "paid"
    assert not found.dead_lettered
    totals = found.totals
    assert (totals.decided, totals.waited, totals.delayed, totals.handled) == (1200, 1070, 1000, 100)


@pytest.mark.parametrize("skew", [-5, 0, 5])
def test_an_event_never_precedes_the_attempt_that_published_it(skew: int) -> None:
    found = history(
        [created(at=30 + skew), event("p", "payment.failed", 80 + skew, causation_id="c")],
        [attempt(1, 30, service="payment")],
    )
    assert kinds(found) == [
        ("published", "order.created"),
        ("handled", "order.created"),
        ("published", "payment.failed"),
    ]


def test_an_event_follows_the_successful_attempt_and_not_an_earlier_failed_one() -> None:
    # All rows have the same time, as with a coarse clock.
    tries = [attempt(1, 10, "retried", ended_at=T0 + 10), attempt(2, 10, ended_at=T0 + 10)]
    found = history([created(10), success(10)], tries)
    assert [kind for kind, _ in kinds(found)] == ["published", "retried", "handled", "published"]


def test_an_event_that_a_failed_attempt_published_precedes_the_next_attempt() -> None:
    found = history([created(), success(70)], [attempt(1, 10, "retried"), attempt(2, 1100)])
    assert [kind for kind, _ in kinds(found)] == ["published", "retried", "published", "handled"]


def test_the_history_does_not_depend_on_the_order_of_the_rows() -> None:
    events = [created(), success(60), event("q", "payment.note", 60, causation_id="c")]
    tries = [attempt(1, 10), attempt(1, 10, queue="other", service="other")]
    expected = words(history(events, tries))
    for seed in range(20):
        random.Random(seed).shuffle(events)
        random.Random(seed).shuffle(tries)
        assert words(history(events, tries)) == expected


def test_events_that_claim_to_cause_each_other_are_both_shown() -> None:
    found = history([event("a", "one", 1, causation_id="b"), event("b", "two", 2, causation_id="a")], [])
    assert [entry.type for entry in found.entries] == ["one", "two"]


def test_a_dead_letter_makes_an_undecided_order_failed_and_is_named_with_its_reason() -> None:
    found = history([created()], [attempt(1, 10, "retried"), attempt(2, 1100, "dead_lettered")])
    assert found.status == "failed"
    (dead_lettered,) = found.dead_lettered
    assert (dead_lettered.queue, dead_lettered.service, dead_lettered.message_type, dead_lettered.error) == (
        QUEUE,
        "payment",
        "order.created",
        "no card",
    )
    assert "no card; dead-lettered from payment.order.created" in words(found)[-1]
    assert found.totals.decided is None


def test_a_message_between_two_attempts_is_shown_with_the_time_of_the_next() -> None:
    (waiting,) = history([created()], [attempt(1, 10, "retried")]).waiting
    assert (waiting.queue, waiting.message_type, waiting.due) == (QUEUE, "order.created", T0 + 1060)
    assert not history([created()], [attempt(1, 10, "retried"), attempt(2, 1100)]).waiting


def test_a_replay_is_an_entry_between_the_attempts_and_ends_the_failure() -> None:
    replayed: dict[str, Any] = {"replays": 1, "replayed_at": T0 + 9000}
    found = history([created(), success(9100)], [attempt(1, 10, "dead_lettered"), attempt(1, 9050, **replayed)])
    assert [kind for kind, _ in kinds(found)] == ["published", "dead_lettered", "replayed", "handled", "published"]
    assert words(found)[2] == "order.created replayed to payment.order.created"
    assert found.entries[2].at == T0 + 9000
    assert (found.status, list(found.dead_lettered)) == ("paid", [])


def test_a_replay_whose_first_attempt_failed_again_is_shown_once() -> None:
    once: dict[str, Any] = {"replays": 2, "replayed_at": T0 + 9000}
    found = history(
        [created()],
        [
            attempt(1, 10, "dead_lettered"),
            attempt(1, 9050, "retried", **once),
            attempt(2, 10_100, "dead_lettered", **once),
        ],
    )
    assert [kind for kind, _ in kinds(found)] == ["published", "dead_lettered", "replayed", "retried", "dead_lettered"]
    assert words(found)[2].endswith(", for the 2nd time")
    assert found.status == "failed"


def test_a_replay_by_a_slow_clock_still_follows_the_dead_letter() -> None:
    found = history([created()], [attempt(1, 5000, "dead_lettered"), attempt(1, 5100, replays=1, replayed_at=T0 + 1)])
    assert [kind for kind, _ in kinds(found)] == ["published", "dead_lettered", "replayed", "handled"]


def test_a_decision_counts_although_another_message_is_dead_lettered_and_both_are_shown() -> None:
    mail = attempt(1, 20, "dead_lettered", queue="notification.order.events", service="notification")
    found = history([created(), success(60)], [attempt(1, 10), mail])
    assert found.status == "paid"
    assert [one.queue for one in found.dead_lettered] == ["notification.order.events"]


def test_an_order_is_accepted_until_it_is_decided() -> None:
    assert history([created()], []).status == "accepted"
    assert history([created()], [attempt(1, 10, "retried")]).status == "accepted"
    assert history([created(), event("p", "payment.failed", 5, causation_id="c")], []).status == "declined"


def test_of_two_decisions_the_later_counts_and_the_first_is_timed() -> None:
    found = history([created(), event("p", "payment.failed", 50), event("q", "payment.success", 500)], [])
    assert (found.status, found.totals.decided) == ("paid", 50)


def test_different_clocks_make_no_time_negative() -> None:
    found = history([created(100), success(90)], [attempt(1, 50, sent_at=T0 + 60, ended_at=T0 + 40)])
    assert "waited 0 ms, took 0 ms" in " ".join(words(found))
    totals = found.totals
    assert (totals.decided, totals.waited, totals.handled) == (0, 0, 0)


def test_a_second_delivery_and_a_duplicate_are_shown_as_such() -> None:
    found = history([created()], [attempt(1, 10, "duplicate", redelivered=True)])
    assert words(found)[1].startswith(
        "payment skipped order.created on payment.2 as a duplicate, attempt 1, redelivered, waited"
    )


def test_values_that_other_programs_leave_out_leave_no_gaps_in_the_text() -> None:
    bare = event("e", "", 0, app_id=None)
    found = history([bare], [attempt(1, 10, message_id="e", message_type="", sent_at=None)])
    assert words(found) == ["an event published", "payment handled a message on payment.2, attempt 1, took 50 ms"]


def test_the_plain_values_have_the_same_words_and_all_numbers_in_seconds() -> None:
    found = history([created()], [attempt(1, 10, "retried"), attempt(2, 1100, "dead_lettered")])
    plain = as_json(found)
    assert [one["what"] for one in plain["history"]] == words(found)
    assert plain["history"][1]["again_in"] == 1.0
    assert plain["history"][1]["took"] == 0.05
    assert plain["history"][0]["at"] == "2023-11-14T22:13:20.000Z"
    assert plain["totals"] == {
        "decided_after": None,
        "waited": 0.04,
        "delayed": 1.0,
        "handled": 0.1,
        "dead_lettered": 0.0,
    }
    assert plain["dead_lettered"][0]["since"] == "2023-11-14T22:13:21.150Z"


def test_a_time_outside_the_calendar_is_shown_as_its_number() -> None:
    assert moment(2**62) == str(2**62)


def test_each_delivery_of_the_same_message_is_a_separate_entry_in_the_order_of_time() -> None:
    again = [attempt(1, 2000, "duplicate", instance="payment.1"), attempt(1, 3000, "duplicate")]
    found = history([created()], [*again, attempt(1, 1000)])
    assert kinds(found)[1:] == [(kind, "order.created") for kind in ("handled", "duplicate", "duplicate")]
    assert words(found)[2].startswith("payment skipped order.created on payment.1 as a duplicate")


def test_a_second_delivery_after_a_retry_is_shown_after_it() -> None:
    found = history([], [attempt(1, 1000, "retried"), attempt(2, 2100), attempt(1, 3000, "duplicate")])
    assert [entry.kind for entry in found.entries] == ["retried", "handled", "duplicate"]


def test_an_event_follows_the_delivery_that_published_it_and_not_a_later_one() -> None:
    found = history([created(), success(1040)], [attempt(1, 1000), attempt(1, 1060), attempt(1, 1120, "duplicate")])
    assert [kind for kind, _ in kinds(found)] == ["published", "handled", "published", "handled", "duplicate"]


def test_the_time_in_a_dead_letter_queue_is_counted_until_the_replay() -> None:
    dead, back = attempt(1, 0, "dead_lettered"), attempt(1, 9000, replays=1, replayed_at=T0 + 8050)
    assert history([created()], [dead, back]).totals.dead_lettered == 8000
    assert history([created()], [dead]).totals.dead_lettered == 0


def test_no_time_is_negative_between_an_attempt_and_its_event() -> None:
    # The event got its time while the handler was running.
    found = history([created(), success(1030)], [attempt(1, 1000)])
    assert [entry.at - T0 for entry in found.entries] == [0, 1050, 1050]


def test_the_lines_of_a_history_are_wrapped_below_their_text_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = "the gateway at payments.example.org did not answer within the limit of ten seconds"
    found = history([created()], [attempt(1, 50, "retried", error=error), attempt(2, 1150, "dead_lettered")])
    whole = list(_lines(found))
    assert max(map(len, whole)) > 80
    monkeypatch.setattr("runner.cli.terminal.terminal_width", lambda: 80)
    lines = "\n".join(_lines(found)).splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(lines).split() == " ".join(whole).split()
    first = next(number for number, line in enumerate(lines) if "failed to handle" in line)
    assert lines[first + 1].startswith(" " * lines[first].index("payment"))
