"""The queues that an event reaches, and the time since which it does. The earliest of all routes counts."""

from __future__ import annotations

from runner.ledger.expected_queues import ExpectedQueues, OpenRoute
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue

OBJECTS = Objects(
    exchanges=tuple(Exchange(name, "topic") for name in ("orders", "a", "b", "rest")),
    queues=(Queue("pay"), Queue("rest.all")),
    bindings=(
        # In an order in which the late route to b is followed before the early one is known.
        Binding("orders", "b", "exchange", "created"),
        Binding("orders", "a", "exchange", "created"),
        Binding("b", "pay", routing_key="#"),
        Binding("a", "b", "exchange", "#"),
        Binding("rest", "rest.all", routing_key="#"),
    ),
    policies=(Policy("rest", "^orders$", "exchanges", {"alternate-exchange": "rest"}),),
)
TO_B, TO_A, TO_PAY, FROM_A, TO_REST = (one.key for one in OBJECTS.bindings)


def test_a_queue_is_reached_since_the_last_binding_of_its_route() -> None:
    since = {TO_B: 1000, TO_PAY: 500, TO_A: 9000, FROM_A: 9000}
    assert ExpectedQueues(OBJECTS, since).of("orders", "created") == {"pay": OpenRoute(1000)}


def test_an_exchange_that_is_found_again_on_an_earlier_route_gets_the_earlier_time() -> None:
    since = {TO_B: 9000, TO_PAY: 500, TO_A: 600, FROM_A: 700}
    assert ExpectedQueues(OBJECTS, since).of("orders", "created") == {"pay": OpenRoute(700)}


def test_if_one_of_two_routes_has_no_time_the_other_is_certain_and_the_time_before_it_is_not() -> None:
    since = {TO_B: 1000, TO_PAY: 500, TO_A: 600}
    assert ExpectedQueues(OBJECTS, since).of("orders", "created") == {"pay": OpenRoute(1000, True)}


def test_an_alternate_exchange_gets_events_that_no_binding_matches_and_has_no_time() -> None:
    arrivals = ExpectedQueues(OBJECTS, dict.fromkeys((TO_B, TO_PAY, TO_REST), 1000))
    assert arrivals.of("orders", "deleted") == {"rest.all": OpenRoute(None, True)}
    assert arrivals.of("", "pay") == {"pay": OpenRoute(None, True)}
    assert arrivals.of("gone", "created") == {}


def test_a_cycle_of_exchanges_ends_and_makes_nothing_uncertain() -> None:
    back = Binding("b", "orders", "exchange", "#")
    objects = Objects(OBJECTS.exchanges, OBJECTS.queues, (*OBJECTS.bindings, back))
    since = dict.fromkeys((one.key for one in OBJECTS.bindings), 1000)
    assert ExpectedQueues(objects, since).of("orders", "created") == {"pay": OpenRoute(1000)}
