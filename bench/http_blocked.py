"""How long an order waits at most when the broker takes no messages any more.

Orders come at 200/s, each on a connection of its own, while the broker's memory alarm begins and, three seconds later,
ends. Counted is every answer from then on when the first order came that was refused: also of orders that were with the
broker as it blocked, and of those that come as it takes messages again.
"""

from __future__ import annotations

import time

from bench.ground import Ground
from bench.http_server import order_api
from tests.load import Load
from tests.rabbit import Rabbit

RATE, SECONDS = 200, 3.0
#: A part of the memory that is over the limit whatever the broker uses, and RabbitMQ's own limit.
ALARM, NO_ALARM = "0", "0.4"


def blocked(ground: Ground, runs: int) -> list[float]:
    """The longest wait of each run, in milliseconds. Raises RuntimeError for an answer that is neither 202 nor 503."""
    longest = []
    with ground.vhost() as vhost, order_api(ground, vhost, 1) as server:
        for _ in range(runs):
            load = Load(server.port, RATE)
            try:
                time.sleep(0.5)
                block(ground.rabbit, ALARM)
                time.sleep(SECONDS)
            finally:
                block(ground.rabbit, NO_ALARM)
                time.sleep(0.5)
                answers = load.stop()
            first = min((one.began for one in answers if one.status == 503), default=None)
            others = sorted({one.status for one in answers} - {202, 503})
            if first is None or others or answers[-1].status != 202:
                raise RuntimeError(f"answers as the broker blocked: {others or 'no 503'}; allowed: 202, 503")
            longest.append(1000 * max(one.ended - one.began for one in answers if one.ended >= first))
    return longest


def block(rabbit: Rabbit, share: str) -> None:
    """Set the share of the memory from which on the broker takes no messages."""
    rabbit.rabbitmqctl("set_vm_memory_high_watermark", share)
