"""The longest time that an order waits for its answer while the broker blocks publishers.

Clients post 200 orders a second, each on its own connection. The broker's memory alarm starts, and stops three seconds
later. All answers count from the first refused order on. So they include orders that the broker had when it blocked,
and orders that arrive when it accepts messages again.
"""

from __future__ import annotations

import time

from bench.ground import Ground
from bench.http_server import order_api
from tests.load import Load
from tests.rabbit import Rabbit

RATE, SECONDS = 200, 3.0
#: A share of the memory that is always exceeded, and RabbitMQ's default.
ALARM, NO_ALARM = "0", "0.4"


def blocked(ground: Ground, runs: int) -> list[float]:
    """Return the longest wait of each run in milliseconds. Raises RuntimeError for answers other than 202 and 503."""
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
                raise RuntimeError(f"answers while the broker blocked: {others or 'no 503'}; allowed: 202, 503")
            longest.append(1000 * max(one.ended - one.began for one in answers if one.ended >= first))
    return longest


def block(rabbit: Rabbit, share: str) -> None:
    """Set the share of the memory above which the broker blocks publishers."""
    rabbit.rabbitmqctl("set_vm_memory_high_watermark", share)
