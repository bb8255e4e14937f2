"""A project of one service, ``jobs``, whose plugin a test writes."""

from __future__ import annotations

from typing import Any

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
