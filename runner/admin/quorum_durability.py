"""A delay until new quorum queues survive a crash of the broker.

This is a workaround: RabbitMQ 3.10 writes the list of its quorum queues up to a second after it has confirmed their
declaration. Remove this module when the oldest supported RabbitMQ writes the list first.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Sequence

from pika.channel import Channel

from runner.amqp.session import Session
from runner.config.version import QUORUM, WRITES_EARLIER_NAMES, parsed
from runner.errors import BrokerUnreachable

#: Seconds until RabbitMQ has written the list of its Raft members (``names.dets``), a second after the last change.
#: Measured on 3.10.8: a queue is lost after up to 0.9 s, and kept from 1.0 s on.
PERIOD = 1.5
#: Seconds for the declaration and deletion of one queue.
TIMEOUT = 10.0
#: Milliseconds after which that queue expires if its deletion fails.
_EXPIRES = 60_000


def wait_until_durable(urls: Sequence[str]) -> None:
    """Return when the quorum queues that a broker has just created would survive its crash.

    Otherwise the broker would lose them with all confirmed messages, and they would wait forever for a leader. One
    more quorum queue on every node makes RabbitMQ write the list early. RabbitMQ looks up the name of a new member
    before the registration, and the lookup of an uncached name first writes the cache (Erlang's dets). If this is not
    known to work for the version, or fails, the function waits for ``PERIOD``.
    """
    with contextlib.suppress(BrokerUnreachable):
        # With several nodes it was not observed that one queue makes all of them write.
        if len(urls) == 1 and _Marker(urls[0]).run():
            return
    time.sleep(PERIOD)


class _Marker:
    """A connection that declares a queue with a unique name, and deletes it."""

    def __init__(self, url: str) -> None:
        self._name = f"fastcommerce.settle.{uuid.uuid4().hex}"
        self._is_declared = False
        self._session = Session(url, "runner settle", self._declare)

    def run(self) -> bool:
        """Return True if the queue was declared on a broker that then writes its list. Raises BrokerUnreachable."""
        self._session.run(TIMEOUT)
        return self._is_declared

    def _declare(self, channel: Channel) -> None:
        if not WRITES_EARLIER_NAMES.holds(parsed(str(channel.connection.server_properties.get("version", "")))):
            self._session.finish()
            return
        channel.add_on_close_callback(lambda *_: self._session.finish())
        # The large group puts a member on each node, even if one address stands for several nodes.
        arguments = {"x-queue-type": QUORUM, "x-quorum-initial-group-size": 99, "x-expires": _EXPIRES}
        channel.queue_declare(self._name, durable=True, arguments=arguments, callback=lambda _: self._delete(channel))

    def _delete(self, channel: Channel) -> None:
        self._is_declared = True
        channel.queue_delete(self._name, callback=lambda _: self._session.finish())
