"""What a quorum queue confirmed outlives the broker from the moment on in which its declaration returns."""

from __future__ import annotations

from pathlib import Path

import pika
import pika.exceptions
import pytest

from runner.amqp.declare import declare
from runner.topology.model import Objects, Queue
from tests.amqp import channel_to, publish
from tests.parked import held
from tests.rabbit import Rabbit, wait_until

pytestmark = pytest.mark.kills_broker


def test_a_broker_that_is_killed_right_after_a_declaration_and_a_confirm_keeps_the_message(tmp_path: Path) -> None:
    rabbit = Rabbit(tmp_path / "own")
    try:
        declare([rabbit.url], Objects(queues=(Queue("new", True, {"x-queue-type": "quorum"}),)))
        with channel_to(rabbit.url) as channel:
            publish(channel, "", "new", b"x", pika.BasicProperties(delivery_mode=2), mandatory=True)
            rabbit.kill()
        rabbit.start()
        wait_until(lambda: held(rabbit.url, "new") == [1], 20, "the message is there")
    finally:
        rabbit.stop()
