"""Wait until new quorum queues outlive a killed broker.

A workaround: RabbitMQ 3.10 writes the list of its quorum queues up to a second after it has confirmed their
declaration. It can go when the oldest supported RabbitMQ writes the list first.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Sequence

from pika.channel import Channel

from runner.amqp.session import Session
from runner.config.version import QUORUM, WRITES_EARLIER_NAMES, parsed
from runner.errors import BrokerAway

#: Seconds until RabbitMQ has written the list of its Raft members (``names.dets``) by itself, a second after the last
#: change (measured on 3.10.8: lost up to 0.9 s, kept from 1.0 s on).
PERIOD = 1.5
#: Seconds for one more queue to be declared and deleted.
TIMEOUT = 10.0
#: For how many milliseconds that queue stays where its deletion does not get through.
_EXPIRES = 60_000


def settle(urls: Sequence[str]) -> None:
    """Return once a broker that is killed no longer forgets the quorum queues it has just made.

    It would forget with them all that it has confirmed, and they would wait for a leader for ever. RabbitMQ looks up a
    new member's name before it registers it, and a look for a name that is not cached first writes what is (Erlang's
    dets): so one more quorum queue, on every node, has all earlier ones written when its declaration returns. Where
    this was not seen of a version, or cannot be done, it takes ``PERIOD``.
    """
    with contextlib.suppress(BrokerAway):
        # Of several nodes it was not seen that one queue has all of them write.
        if len(urls) == 1 and _Marker(urls[0]).run():
            return
    time.sleep(PERIOD)


class _Marker:
    """One connection's life: declare a queue that nobody else has, and delete it."""

    def __init__(self, url: str) -> None:
        self._name = f"fastcommerce.settle.{uuid.uuid4().hex}"
        self._is_declared = False
        self._session = Session(url, "runner settle", self._declare)

    def run(self) -> bool:
        """Whether it was declared, on a broker of which is known what that means. Raises BrokerAway."""
        self._session.run(TIMEOUT)
        return self._is_declared

    def _declare(self, channel: Channel) -> None:
        if not WRITES_EARLIER_NAMES.holds(parsed(str(channel.connection.server_properties.get("version", "")))):
            self._session.finish()
            return
        channel.add_on_close_callback(lambda *_: self._session.finish())
        # More members than there are nodes: one on each, should one address stand for many.
        arguments = {"x-queue-type": QUORUM, "x-quorum-initial-group-size": 99, "x-expires": _EXPIRES}
        channel.queue_declare(self._name, durable=True, arguments=arguments, callback=lambda _: self._delete(channel))

    def _delete(self, channel: Channel) -> None:
        self._is_declared = True
        channel.queue_delete(self._name, callback=lambda _: self._session.finish())
