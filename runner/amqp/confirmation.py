"""What became of an event, by what the broker says of it: a return, and then a confirm."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pika
from pika.channel import Channel

from runner.amqp.dead_leader import DeadLeaderRefusals
from runner.amqp.properties import Encoded
from runner.errors import BrokerError, PublishRefused, Unroutable
from runner.headers import name_of


class Confirmations:
    """Of one channel; the broker returns an unroutable message first and then confirms it.

    (RabbitMQ: "Consumer Acknowledgements and Publisher Confirms".) The return does not name the confirm's tag; what is
    the same in id, exchange and routing key shares its fate.
    """

    def __init__(self, refusals: DeadLeaderRefusals | None) -> None:
        self._returned: Counter[tuple[str, str, str]] = Counter()
        self._refusals, self._is_stale = refusals, False

    def forget(self) -> None:
        """The channel is a new one."""
        self._returned.clear()
        if self._refusals is not None:
            self._refusals.forget()

    def on_return(self, _channel: Channel, method: Any, properties: pika.BasicProperties, _body: bytes) -> None:
        """A message has come back."""
        self._returned[name_of(properties.message_id), method.exchange, method.routing_key] += 1

    def of(self, encoded: Encoded, *, refused: bool) -> BrokerError | None:
        """What a confirm, or the broker's refusal, means for an event; None where all is well."""
        if not refused and self._refusals is None and not self._returned:
            return None
        _, exchange, routing_key = key = encoded.key
        where = f"exchange {exchange or 'default'!r}, routing key {routing_key!r}"
        if refused:
            if self._refusals is not None:
                self._is_stale |= self._refusals.refused((exchange, routing_key), time.monotonic())
            return PublishRefused(f"{where}: the broker refused the event; a queue may be full")
        if self._refusals is not None:
            self._refusals.taken((exchange, routing_key))
        if self._returned[key] > 0:
            self._returned[key] -= 1
            self._returned += Counter()  # forgets what is at zero
            if not exchange:
                return Unroutable(f"queue {routing_key!r} is not there")
            return Unroutable(f"{where}: no queue is bound for it; add a binding, or an alternate_exchange")
        return None

    def take_stale(self) -> bool:
        """Whether so much was refused since the last call that another connection should be tried."""
        is_stale, self._is_stale = self._is_stale, False
        return is_stale
