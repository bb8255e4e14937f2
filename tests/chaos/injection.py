"""The injection of planned faults into a running rig, with their results."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.plan import KINDS, Planned
from tests.chaos.queue import QUEUES, bad_type
from tests.chaos.rig import Rig

#: Seconds in which a fault is tried again if it cannot be injected now, for example because the runner is down.
PATIENCE = 45.0
#: The number of messages that are delivered twice.
DUPLICATES = 20
#: A memory limit that is always exceeded, and the default limit of RabbitMQ 3.10.
ALARM, NO_ALARM = "0", "0.4"


class Missed(Exception):
    """A fault that could not be injected and had no effect."""


class Injector:
    """The injector of faults. Each fault runs on its own thread."""

    def __init__(self, rig: Rig, poison: Path) -> None:
        self._rig, self._poison = rig, poison
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        # On a slow machine a fault may last longer than planned; then the next one of its group waits.
        self._groups = {one.group: threading.Lock() for one in KINDS if one.group}
        self._kinds: dict[str, Callable[[Planned], None]] = {
            "worker killed": lambda one: self._command("kill", self._slot(one)),
            "worker hung": lambda one: self._command("pause", self._slot(one), f"{one.seconds}s"),
            "handlers slow": lambda one: self._command("slow", self._reader(one), "200ms", "--for", f"{one.seconds}s"),
            "duplicates": lambda one: self._command(
                "duplicate", self._queue(one), "--count", str(DUPLICATES), "--for", "5s"
            ),
            "bad message": lambda one: self._publish_bad(one, {}),
            "crashing message": lambda one: self._publish_bad(one, {"x-fault": "kill"}),
            "supervisor killed": self._kill_supervisor,
            "broker killed": self._kill_broker,
            "connections cut": lambda one: rig.proxy.cut(one.seconds),
            "network silent": lambda one: rig.proxy.blackhole(one.seconds),
            "network slow": lambda one: rig.proxy.slow(0.05, one.seconds),
            "memory alarm": self._alarm,
            "store locked": lambda one: rig.store.lock(one.seconds),
            "store full": self._fill_store,
            "node killed": self._kill_node,
        }

    def inject(self, planned: Planned) -> None:
        """Inject a fault, and wait until it is over. Raises Missed."""
        group = next((one.group for one in KINDS if one.name == planned.kind), "")
        with self._groups.get(group, contextlib.nullcontext()):
            self._kinds[planned.kind](planned)

    def stop(self) -> None:
        """Stop all retries, and end the lasting faults."""
        self._is_over.set()
        self._rig.proxy.heal()
        self._rig.store.free()

    def _slot(self, planned: Planned) -> str:
        slots = sorted(one["slot"] for one in self._again(self._rig.slots, "no runner reports its processes"))
        return str(slots[int(planned.draw * len(slots))])

    def _reader(self, planned: Planned) -> str:
        readers = ("payment", "notification", "points", "audit")
        return readers[int(planned.draw * len(readers))]

    def _queue(self, planned: Planned) -> str:
        return QUEUES[int(planned.draw * len(QUEUES))]

    def _again(self, action: Callable[[], Any], problem: str) -> Any:
        """Repeat ``action`` until it returns a true value. Raises Missed."""
        deadline = time.monotonic() + PATIENCE
        while not (found := action()):
            if time.monotonic() > deadline or self._is_over.wait(0.5):
                raise Missed(problem)
        return found

    def _command(self, *words: str) -> None:
        """Inject a fault with the product's ``fault`` command."""
        said = ""

        def succeeds() -> bool:
            nonlocal said
            code, said = self._rig.tell("fault", *words, "--json")
            return code == 0

        try:
            self._again(succeeds, "")
        except Missed:
            raise Missed(said.strip().splitlines()[-1] if said.strip() else f"fault {words[0]} had no effect") from None

    def _publish_bad(self, planned: Planned, headers: dict[str, str]) -> None:
        """Publish a message that no handler can handle, and record its id."""
        queue, name = self._queue(planned), f"bad-{uuid.uuid4()}"
        properties = {"message_id": name, "delivery_mode": 2, "type": bad_type(queue), "headers": headers}
        message = {
            "routing_key": queue, "payload": '["no", "order"]', "payload_encoding": "string", "properties": properties,
        }  # fmt: skip

        def publish() -> bool:
            # Recorded before the publish, because the message may arrive without a response.
            self._note({"id": name, "queue": queue, "sure": False})
            with contextlib.suppress(OSError):
                return bool(self._rig.api("POST", "/exchanges/%2F/amq.default/publish", message)["routed"])
            return False

        self._again(publish, "the broker does not accept the message")
        self._note({"id": name, "queue": queue, "sure": True})

    def _note(self, line: dict[str, Any]) -> None:
        with self._lock, self._poison.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _kill_supervisor(self, _: Planned) -> None:
        runner = self._rig.runner
        assert runner is not None
        os.kill(runner.pid, signal.SIGKILL)
        runner.wait(10)
        self._rig.spawn()

    def _kill_broker(self, planned: Planned) -> None:
        rabbit = self._rig.rabbit
        assert rabbit is not None
        rabbit.kill()
        time.sleep(planned.seconds)
        rabbit.start()

    def _kill_node(self, planned: Planned) -> None:
        cluster = self._rig.cluster
        assert cluster is not None
        # The promise for three nodes allows only one node down.
        cluster.wait_whole(60)
        number = round(planned.draw * 3)
        cluster.kill(number)
        time.sleep(planned.seconds)
        cluster.start(number)

    def _alarm(self, planned: Planned) -> None:
        rabbit = self._rig.rabbit
        assert rabbit is not None
        rabbit.rabbitmqctl("set_vm_memory_high_watermark", ALARM)
        try:
            time.sleep(planned.seconds)
        finally:
            rabbit.rabbitmqctl("set_vm_memory_high_watermark", NO_ALARM)

    def _fill_store(self, planned: Planned) -> None:
        self._rig.store.fill()
        try:
            time.sleep(planned.seconds)
        finally:
            self._rig.store.free()
