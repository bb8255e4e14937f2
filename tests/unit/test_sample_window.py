"""Rates are averaged over the last seconds, and not over a time without samples."""

from __future__ import annotations

from runner.dashboard.edge_rates import EdgeRates, EdgeRoutes, ends_of
from runner.dashboard.sample_window import WINDOW, SampleWindow


def test_a_window_begins_with_the_last_sample_before_it() -> None:
    window: SampleWindow[int] = SampleWindow()
    found = [window.add(100 + number, number) for number in range(10)]
    assert found == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (5, 1), (5, 2), (5, 3), (5, 4)]


def test_a_new_window_begins_after_a_time_without_samples() -> None:
    window: SampleWindow[int] = SampleWindow()
    window.add(100, 1)
    assert window.add(101 + WINDOW, 2) == (0, 2)


def test_the_rate_of_an_edge_is_unknown_at_first() -> None:
    rates, routes = EdgeRates(), EdgeRoutes(None)
    found = [
        rates.add(time, [{"service": "pay", "edges": [["delivered", "orders", "", count]]}], routes)
        for time, count in ((100, 10), (102, 20), (1000, 500), (1001, 501))
    ]
    assert found == [{}, {"queue orders>service pay": 5.0}, {}, {"queue orders>service pay": 1.0}]


def test_the_ends_of_an_edge_may_contain_the_sign_between_them() -> None:
    assert ends_of("exchange a>b>queue c>d e") == ("exchange a>b", "queue c>d e")
    assert ends_of("service pay>dead a > b") == ("service pay", "dead a > b")
