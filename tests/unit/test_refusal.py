"""When refused events are worth a new connection."""

from __future__ import annotations

from runner.amqp.refusal import PAUSE, Refusals

ORDERS, PAYMENTS = ("orders.topic", "order.created"), ("payments.topic", "payment.success")


def test_a_route_that_is_refused_for_long_is_worth_a_new_connection_and_a_moment_is_not() -> None:
    refusals = Refusals()
    assert not refusals.refused(ORDERS, 10.0)
    assert not refusals.refused(ORDERS, 10.0 + PAUSE[0] - 0.01)
    assert refusals.refused(ORDERS, 10.0 + PAUSE[0])


def test_a_confirm_ends_what_counts_for_its_route_and_no_other() -> None:
    refusals = Refusals()
    refusals.refused(ORDERS, 10.0)
    refusals.refused(PAYMENTS, 10.0)
    refusals.taken(ORDERS)
    assert not refusals.refused(ORDERS, 11.0)
    assert refusals.refused(PAYMENTS, 11.0)


def test_a_queue_that_stays_full_costs_fewer_and_fewer_connections_until_it_takes_one_again() -> None:
    refusals, at = Refusals(), []
    for tenth in range(6000):
        if refusals.refused(ORDERS, tenth / 10):
            at.append(tenth / 10)
            refusals.forget()
    assert len(at) < 16, "in ten minutes"
    assert at[-1] - at[-2] >= PAUSE[1]
    refusals.taken(ORDERS)
    refusals.refused(ORDERS, 1000.0)
    assert refusals.refused(ORDERS, 1000.0 + PAUSE[0])
