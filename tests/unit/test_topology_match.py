"""Cases of the routing rules by name. The integration tests compare the rules with a real broker."""

from __future__ import annotations

import pytest

from runner.topology.model import Binding, Exchange, Objects, Queue
from runner.topology.offline_routing import OfflineRouter, matches_headers, matches_topic, words_of


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("order.created.#", "order.created", True),
        ("order.created.#", "order.created.usd.eu", True),
        ("order.created.*", "order.created", False),
        ("#", "", True),
        ("*", "", False),
        ("", "", True),
        ("a.#.b", "a.b", True),
        ("a.#.b", "a.x.y.b", True),
        ("a.#.b", "a.x.y", False),
        ("#.#", "", True),
        ("a..b", "a..b", True),
        ("a.*.b", "a..b", True),
    ],
)
def test_a_topic_pattern_matches_a_key(pattern: str, key: str, expected: bool) -> None:
    assert matches_topic(pattern, words_of(key)) is expected


@pytest.mark.parametrize(
    ("arguments", "headers", "expected"),
    [
        ({}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"x-match": "any", "a": 1, "b": 2}, {"a": 1}, True),
        ({"x-match": "any"}, {"a": 1}, False),
        ({"a": None}, {"a": "whatever"}, True),
        ({"a": None}, {}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"x-a": 1}, {}, True),
        ({"x-match": "all-with-x", "x-a": 1}, {}, False),
        ({"x-match": "any-with-x", "x-a": 1}, {"x-a": 1}, True),
    ],
)
def test_a_headers_binding_matches_headers(
    arguments: dict[str, object], headers: dict[str, object], expected: bool
) -> None:
    assert matches_headers(arguments, headers) is expected


def test_the_default_exchange_uses_the_key_as_a_queue_s_name() -> None:
    router = OfflineRouter(Objects(queues=(Queue("work"),)))
    assert router.route("", "work").queues == ("work",)
    assert router.route("", "wrok").queues == ()


def test_an_alternate_exchange_is_used_only_if_the_exchange_itself_finds_no_destination() -> None:
    objects = Objects(
        (
            Exchange("a", "direct", arguments={"alternate-exchange": "lost"}),
            Exchange("b", "direct"),
            Exchange("lost", "fanout"),
        ),
        (Queue("q"),),
        (Binding("a", "b", "exchange", "k"), Binding("lost", "q")),
    )
    router = OfflineRouter(objects)
    assert router.route("a", "other").queues == ("q",)
    # The message was routed to b, which counts; that b then finds no queue does not matter for a.
    assert router.route("a", "k").queues == ()
    assert [hop.exchange for hop in router.route("a", "k").hops] == ["a", "b"]
