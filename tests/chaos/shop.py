"""The project for a run with injected faults: the shipped services, and one more whose table has no key."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.ports import free_port
from tests.running import ROOT, Project

#: A plugin that writes each event into a table without a key, so that repeated handling is visible. The tables
#: ``charges`` and ``emails`` of the shipped plugins have keys, which would hide a broken inbox.
POINTS = '''"""Give the customer a point for each event of an order."""

from sqlalchemy import Column, Integer, MetaData, Table, Text

from runner import Message, MessageStore, Reject, Retry, hookimpl

metadata = MetaData()
points = Table(
    "points",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("order_id", Text, nullable=False, index=True),
    Column("type", Text, nullable=False),
)


@hookimpl
def start(context):
    metadata.create_all(context.store.engine)


@hookimpl
def handle(message: Message, store: MessageStore) -> None:
    body = message.json()
    if not isinstance(body, dict) or "order_id" not in body:
        raise Reject("not an event of an order")
    if message.attempt == 1 and body["order_id"][0] in "01":
        raise Retry("try again")
    store.execute(points.insert(), {"order_id": body["order_id"], "type": message.type})
'''
#: Instances restart at once and are never given up, because the tests are about the messages of crashed workers.
KEPT = {"backoff": {"initial": "100ms", "max": "1s"}, "restart_limit": {"count": 100, "window": "2m"}}


class Shop(Project):
    """A project with two order APIs: the first has an outbox, the second answers after the broker's confirm."""

    def __init__(self, folder: Path, database: str, source: Path = ROOT) -> None:
        """Create the project. ``source`` is the tree of the plugins."""
        super().__init__(folder)
        if source != ROOT:
            shutil.rmtree(folder / "plugins")
            shutil.copytree(source / "plugins", folder / "plugins")
        self.direct_port = free_port()
        self.plugin("points", POINTS)
        topology = self.topology()
        for queue in topology["queues"].values():
            if "retry" in queue:
                queue["retry"] = ["300ms", "600ms", "1s"]
        # A classic queue, which keeps only persistent messages when the broker restarts.
        topology["queues"]["points.events"] = {
            "type": "classic",
            "bind": {"orders.topic": ["order.created.#"], "payments.topic": ["payment.*"]},
            "retry": ["300ms", "600ms", "1s"],
        }
        topology["queues"]["audit.events"] = {
            "bind": {"orders.topic": ["#"], "payments.topic": ["#"]},
            "retry": ["300ms", "600ms", "1s"],
        }
        self.set_topology(topology)
        config = self.config()
        config["broker"]["autostart"] = False
        config["store"] = {"url": database}
        services = config["services"]
        door = services["order_api"]
        services["order_api"] = {**door, "options": {**door["options"], "outbox": True}}
        services["order_direct"] = {
            **door, "plugin": "order_api", "options": {**door["options"], "port": self.direct_port},
        }  # fmt: skip
        services["payment"] |= {
            "inbox": True, "concurrency": 4, "instances": 2,
            "options": {"failure_rate": 0.1, "timeout_rate": 0.01, "latency": "5ms"},
        }  # fmt: skip
        services["notification"] |= {"inbox": True, "instances": 2}
        services["points"] = {"consumes": ["points.events"], "inbox": True, "concurrency": 4}
        services["audit"] = {"consumes": ["audit.events"]}
        config["services"] = {name: {**one, **KEPT} for name, one in services.items()}
        self.set_config(config)

    @property
    def doors(self) -> list[int]:
        """Return the ports of the order APIs."""
        return [self.port, self.direct_port]

    def replicate(self) -> None:
        """Replicate every queue to all nodes of a cluster. A classic queue misses events while its node is down."""
        topology = self.topology()
        del topology["queues"]["points.events"]["type"]
        self.set_topology(topology)
