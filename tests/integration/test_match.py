"""The offline computation of routes agrees with a real broker for all bindings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pika.adapters.blocking_connection import BlockingChannel

from runner.config.version import MOST_HASHES
from runner.topology.model import Binding, Exchange, Objects, Queue
from runner.topology.offline_routing import OfflineRouter
from tests.amqp import Message, channel_to, publish_all
from tests.proof import times
from tests.rabbit import Vhost

#: The number of examples, and of messages in each example.
EXAMPLES, MESSAGES = times(40, 100), 50

#: Patterns with no more words ``#`` than all versions of RabbitMQ accept.
PATTERNS = (
    st.lists(st.sampled_from(["a", "b", "*", "#", "", "ab"]), max_size=4)
    .filter(lambda words: words.count("#") <= MOST_HASHES)
    .map(".".join)
)
KEYS = st.lists(st.sampled_from(["a", "b", "", "ab", "*", "#"]), max_size=4).map(".".join)
VALUES: st.SearchStrategy[Any] = st.sampled_from(["", "eu", "1", 1, 2, 1.5, -2.0, True, False, [1, "a"]])
HEADERS = st.dictionaries(st.sampled_from(["region", "size", "x-tenant", "x-urgent"]), VALUES, max_size=3)
MODES = st.sampled_from(["all", "any", "all-with-x", "any-with-x"])
TYPES = ("direct", "topic", "fanout", "headers")
run_numbers = itertools.count()


@st.composite
def topologies(draw: st.DrawFn) -> Objects:
    types = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=4))
    names = [f"x{number}" for number in range(len(types))]
    exchanges = []
    for name, kind in zip(names, types, strict=True):
        alternate = draw(st.sampled_from([None, *names, "missing"]))
        arguments = {} if alternate is None else {"alternate-exchange": alternate}
        exchanges.append(Exchange(name, kind, durable=False, arguments=arguments))
    queues = [Queue(f"q{number}", durable=False) for number in range(draw(st.integers(1, 4)))]
    bindings = []
    for _ in range(draw(st.integers(0, 10))):
        source = draw(st.sampled_from(exchanges))
        to_queue = draw(st.booleans())
        bound: dict[str, Any] = {}
        if source.type == "headers":
            # For a header with the value None only its presence counts.
            bound = draw(st.dictionaries(st.sampled_from(["region", "size", "x-tenant"]), VALUES | st.none()))
            mode = draw(st.none() | MODES)
            bound |= {} if mode is None else {"x-match": mode}
        destination = draw(st.sampled_from([one.name for one in queues] if to_queue else names))
        kind = "queue" if to_queue else "exchange"
        bindings.append(Binding(source.name, destination, kind, draw(PATTERNS), bound))
    return Objects(tuple(exchanges), tuple(queues), tuple(bindings))


@pytest.fixture
def channel(vhost: Vhost) -> Iterator[BlockingChannel]:
    with channel_to(vhost.url) as channel:
        yield channel


def declare(channel: BlockingChannel, objects: Objects, prefix: str) -> None:
    def named(name: str) -> str:
        return f"{prefix}{name}"

    for exchange in objects.exchanges:
        arguments = {key: named(str(value)) for key, value in exchange.arguments.items()}
        channel.exchange_declare(named(exchange.name), exchange.type, arguments=arguments)
    for queue in objects.queues:
        channel.queue_declare(named(queue.name), exclusive=True)
    for one in objects.bindings:
        bind = channel.queue_bind if one.destination_type == "queue" else channel.exchange_bind
        bind(named(one.destination), named(one.source), one.routing_key, dict(one.arguments))


def received(channel: BlockingChannel, queue: str) -> list[str]:
    ids = []
    while (answer := channel.basic_get(queue, auto_ack=True))[0] is not None:
        ids.append(str(answer[1].message_id))
    return ids


@pytest.mark.timeout(300)
def test_topic_direct_fanout_and_headers_exchanges_route_as_the_broker_does(
    vhost: Vhost, channel: BlockingChannel
) -> None:
    @settings(
        max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], database=None
    )
    @given(topologies(), st.data())
    def compare(objects: Objects, data: st.DataObject) -> None:
        prefix = f"{next(run_numbers)}."
        declare(channel, objects, prefix)
        router = OfflineRouter(objects)
        expected: dict[str, set[str]] = {queue.name: set() for queue in objects.queues}
        sent: dict[str, Any] = {}
        messages: list[Message] = []
        cases = st.tuples(st.sampled_from([one.name for one in objects.exchanges]), KEYS, HEADERS)
        for number, (exchange, key, headers) in enumerate(
            data.draw(st.lists(cases, min_size=MESSAGES, max_size=MESSAGES))
        ):
            sent[str(number)] = (exchange, key, headers)
            for name in router.route(exchange, key, headers).queues:
                expected[name].add(str(number))
            properties = pika.BasicProperties(message_id=str(number), headers=headers)
            messages.append((f"{prefix}{exchange}", key, b"", properties))
        publish_all(vhost.url, messages)
        for queue in objects.queues:
            ids = received(channel, f"{prefix}{queue.name}")
            assert len(ids) == len(set(ids)), "one copy for each queue"
            differing = {number: sent[number] for number in set(ids) ^ expected[queue.name]}
            assert not differing, (queue.name, differing, objects)
            channel.queue_delete(f"{prefix}{queue.name}")
        for one in objects.exchanges:
            channel.exchange_delete(f"{prefix}{one.name}")

    compare()
