"""Dead letters, as workers and the broker write them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pika

from tests.amqp import channel_to, drained, publish_all

Content = tuple[bytes, pika.BasicProperties]

#: Two queues that lead to one dead-letter queue each, and two that share one.
TOPOLOGY: dict[str, Any] = {
    "exchanges": {"orders": {"type": "topic"}},
    "queues": {
        "pay": {"type": "quorum", "bind": {"orders": ["order.created.#"]}, "retry": ["1s"]},
        "mail": {"type": "classic", "bind": {"orders": ["order.#"]}, "dead_letter": "lost"},
        "stock": {"type": "classic", "dead_letter": "lost"},
    },
}


def failed(identity: str, *, queue: Any = "pay", error: Any = "gateway timed out", **headers: Any) -> Content:
    """Return a message as a worker dead-letters it."""
    known = {
        "x-attempt": 2, "x-first-error": "first", "x-last-error": error, "x-origin-queue": queue,
        "x-origin-exchange": "orders", "x-origin-routing-key": "order.created.usd", "x-exception": "Retry",
        "x-traceback": "Traceback\n  raise Retry", "x-service": "payment", "x-host": "box", "x-pid": 7,
        "x-failed-at": 1_700_000_000, "x-causation-id": "c1", "tenant": "a",
    }  # fmt: skip
    properties = pika.BasicProperties(
        content_type="application/json", message_id=identity, correlation_id=f"order-{identity}",
        type="order.created", timestamp=1_600_000_000, app_id="order_api", priority=3, headers=known | headers,
    )  # fmt: skip
    return json.dumps({"n": identity, "amount": "149.99"}).encode(), properties


def many(count: int, **fields: Any) -> Iterator[Content]:
    """Yield numbered messages."""
    return (failed(f"m{number:06}", **fields) for number in range(count))


def publish(url: str, queue: str, contents: Iterable[Content]) -> None:
    """Publish persistent messages to a queue."""
    messages = list(contents)
    for _, properties in messages:
        properties.delivery_mode = 2
    publish_all(url, (("", queue, body, properties) for body, properties in messages))


def take(url: str, queue: str, count: int) -> list[tuple[Any, pika.BasicProperties, bytes]]:
    """Remove exactly ``count`` messages from a queue. Return them."""
    found: list[tuple[Any, pika.BasicProperties, bytes]] = []
    deadline = time.monotonic() + 20
    with channel_to(url) as channel:
        while len(found) < count and time.monotonic() < deadline:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            if method is not None:
                found.append((method, properties, body))
        assert channel.basic_get(queue)[0] is None, f"{queue} contains more than {count}"
    return found


def take_all(url: str, queue: str) -> list[str]:
    """Remove all messages from a queue. Return their ids in order."""
    with channel_to(url) as channel:
        return [properties.message_id for _, properties, _ in drained(channel, queue)]


def held(url: str, *queues: str) -> list[int]:
    """Return the number of ready messages of each queue, as the queue itself reports it."""
    with channel_to(url) as channel:
        return [channel.queue_declare(queue, passive=True).method.message_count for queue in queues]
