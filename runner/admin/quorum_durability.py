"""A delay until new quorum queues would survive a crash of the broker.

The delay works around RabbitMQ 3.10, which writes its list of quorum queues up to a second after confirming a
declaration. Remove this module when the oldest supported RabbitMQ writes the list before the confirmation.
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

#: Seconds until RabbitMQ has written the list of its Raft members (``names.dets``), normally a second after the last
#: change. In measurements, RabbitMQ 3.10.8 lost a queue in a crash up to 0.9 s after its declaration, and never after
#: 1.0 s or more.
PERIOD = 1.5
#: Seconds within which the marker queue must be declared and deleted.
TIMEOUT = 10.0
#: Milliseconds after which the marker queue expires if its deletion fails.
_EXPIRES = 60_000


def wait_until_durable(urls: Sequence[str]) -> None:
    """Wait until the quorum queues that a broker has just created would survive a crash of the broker.

    Without this wait, the queues would lose all confirmed messages in a crash, and would wait forever for a leader.
    Another new quorum queue on every node makes RabbitMQ write the list early. RabbitMQ looks up the name of a new
    member before it registers the member, and the lookup of an uncached name first writes the cache (Erlang's dets). If
    this workaround fails, or is not known to work for the broker's version, the function waits for ``PERIOD``.
    """
    with contextlib.suppress(BrokerUnreachable):
        # It has not been verified that, in a cluster, one queue makes all nodes write the list.
        if len(urls) == 1 and _Marker(urls[0]).run():
            return
    time.sleep(PERIOD)


class _Marker:
    """A connection that declares a queue with a unique name, and then deletes the queue."""

    def __init__(self, url: str) -> None:
        self._name = f"fastcommerce.settle.{uuid.uuid4().hex}"
        self._is_declared = False
        self._session = Session(url, "runner settle", self._declare)

    def run(self) -> bool:
        """Declare the queue, and return True if this makes the broker write its list. Raises BrokerUnreachable."""
        self._session.run(TIMEOUT)
        return self._is_declared

    def _declare(self, channel: Channel) -> None:
        if not WRITES_EARLIER_NAMES.holds(parsed(str(channel.connection.server_properties.get("version", "")))):
            self._session.finish()
            return
        channel.add_on_close_callback(lambda *_: self._session.finish())
        # The large group size puts a member on each node, even if one address belongs to several nodes.
        arguments = {"x-queue-type": QUORUM, "x-quorum-initial-group-size": 99, "x-expires": _EXPIRES}
        channel.queue_declare(self._name, durable=True, arguments=arguments, callback=lambda _: self._delete(channel))

    def _delete(self, channel: Channel) -> None:
        self._is_declared = True
        channel.queue_delete(self._name, callback=lambda _: self._session.finish())
