"""A project of one service, ``jobs``, whose plugin a test writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pika

from tests import amqp
from tests.rabbit import Vhost, wait_until

TOPOLOGY = {
    "exchanges": {"work": {"type": "topic"}},
    "queues": {
        "jobs": {"bind": {"work": ["job.#"]}, "retry": ["200ms", "400ms"]},
        "done": {"bind": {"work": ["done"]}},
    },
}
CONFIG = {"services": {"jobs": {"consumes": ["jobs"], "publishes": {"work": ["done"]}}}}


def publish(vhost: Vhost, body: str, **properties: Any) -> None:
    """Publish one job."""
    path = f"/exchanges/{vhost.name}/work/publish"
    message = {"routing_key": "job.x", "payload": body, "payload_encoding": "string", "properties": properties}
    wait_until(lambda: vhost.rabbit.api("POST", path, message)["routed"], 10, "routed")


def publish_all(vhost: Vhost, bodies: Mapping[str, str]) -> None:
    """Publish jobs over one connection. Their bodies are given by message id."""
    amqp.publish_all(
        vhost.url,
        [
            ("work", "job.x", body.encode(), pika.BasicProperties(message_id=id, delivery_mode=2))
            for id, body in bodies.items()
        ],
    )
