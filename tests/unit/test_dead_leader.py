"""Refused events that justify a new connection."""

from __future__ import annotations

from itertools import pairwise

import pytest

from runner.amqp.dead_leader import PAUSE, RESET_AFTER, DeadLeaderRefusals

ORDERS, PAYMENTS = ("orders.topic", "order.created"), ("payments.topic", "payment.success")


def test_only_long_refusals_on_a_route_cause_a_new_connection() -> None:
    refusals = DeadLeaderRefusals()
    assert not refusals.refused(ORDERS, 10.0)
    assert not refusals.refused(ORDERS, 10.0 + PAUSE[0] - 0.01)
    assert refusals.refused(ORDERS, 10.0 + PAUSE[0])


def test_a_confirm_resets_the_count_of_its_route_and_of_no_other() -> None:
    refusals = DeadLeaderRefusals()
    refusals.refused(ORDERS, 10.0)
    refusals.refused(PAYMENTS, 10.0)
    refusals.confirmed(ORDERS)
    assert not refusals.refused(ORDERS, 11.0)
    assert refusals.refused(PAYMENTS, 11.0)


@pytest.mark.parametrize("taken_every", [0, 20])
def test_a_full_queue_causes_fewer_and_fewer_connections_even_if_it_sometimes_accepts_an_event(
    taken_every: int,
) -> None:
    refusals, at = DeadLeaderRefusals(), []
    for tenth in range(6000):
        if taken_every and tenth % taken_every == 0:
            refusals.confirmed(ORDERS)
        if refusals.refused(ORDERS, tenth / 10):
            at.append(tenth / 10)
            refusals.forget()
    assert len(at) < 16, "in ten minutes"
    assert all(after - before >= PAUSE[0] for before, after in pairwise(at))


def test_a_route_without_refusals_for_long_starts_again_as_a_new_one() -> None:
    refusals = DeadLeaderRefusals()
    for second in range(100):
        refusals.refused(ORDERS, float(second))
    refusals.refused(PAYMENTS, 100.0)
    assert refusals.refused(PAYMENTS, 100.0 + PAUSE[0]), "another route's pause is its own"
    refusals.forget()
    refusals.refused(ORDERS, 100.0 + RESET_AFTER)
    assert refusals.refused(ORDERS, 100.0 + RESET_AFTER + PAUSE[0])
