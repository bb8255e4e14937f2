"""A confirmed message in a quorum queue survives a kill of the broker, even right after the queue's declaration."""

from __future__ import annotations

import pika
import pytest

from runner.admin.declaration import declare
from runner.topology.model import Objects, Queue
from tests.amqp import channel_to, publish
from tests.dead_lettered import held
from tests.rabbit import Vhost, wait_until

pytestmark = pytest.mark.kills_broker


def test_a_broker_that_is_killed_right_after_a_declaration_and_a_confirm_keeps_the_message(mortal: Vhost) -> None:
    declare([mortal.url], Objects(queues=(Queue("new", True, {"x-queue-type": "quorum"}),)))
    with channel_to(mortal.url) as channel:
        publish(channel, "", "new", b"x", pika.BasicProperties(delivery_mode=2), mandatory=True)
        mortal.rabbit.kill()
    mortal.rabbit.start()
    wait_until(lambda: held(mortal.url, "new") == [1], 20, "the message is there")
