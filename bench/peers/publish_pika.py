"""pika: publish N persistent, mandatory messages, wait for all confirms, and print the seconds.

usage: python -m bench.peers.publish_pika pipelined|blocking|connection URL EXCHANGE ROUTING_KEY N WINDOW

- pipelined: ``SelectConnection`` with at most WINDOW unconfirmed events, as in pika's example "Asynchronous publisher
  example".
- blocking: ``BlockingConnection`` with ``confirm_delivery``, which waits for each confirm, as in pika's example "Using
  Delivery Confirmations with the BlockingConnection".
- connection: a new connection for each message.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import pika

from bench.peers.body import body, encoded


def properties(number: int) -> pika.BasicProperties:
    """Return the properties of a message."""
    return pika.BasicProperties(content_type="application/json", delivery_mode=2, message_id=body(number)["order_id"])


class Pipelined:
    """A publisher that keeps up to a window of unconfirmed events."""

    def __init__(self, url: str, exchange: str, key: str, count: int, window: int) -> None:
        self._exchange, self._key, self._count, self._window = exchange, key, count, window
        self._sent = 0
        self._open: set[int] = set()
        self._low = 0
        self._began = self.took = 0.0
        self.connection = pika.SelectConnection(pika.URLParameters(url), on_open_callback=self._opened)

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._channel_opened)

    def _channel_opened(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_return_callback(lambda *_: sys.exit("returned"))
        channel.confirm_delivery(self._confirmed, callback=lambda _: self._begin())

    def _begin(self) -> None:
        self._began = time.perf_counter()
        self._send()

    def _send(self) -> None:
        while self._sent < self._count and len(self._open) < self._window:
            self._sent += 1
            self._open.add(self._sent)
            self._channel.basic_publish(
                self._exchange, self._key, encoded(self._sent), properties(self._sent), mandatory=True
            )

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        if not isinstance(method, pika.spec.Basic.Ack):
            sys.exit("refused")
        if method.multiple:
            for tag in range(self._low + 1, method.delivery_tag + 1):
                self._open.discard(tag)
            self._low = max(self._low, method.delivery_tag)
        else:
            self._open.discard(method.delivery_tag)
        if not self._open and self._sent == self._count:
            self.took = time.perf_counter() - self._began
            self.connection.close()
            self.connection.ioloop.stop()
        # A batch lets one write send several messages.
        elif len(self._open) <= self._window * 3 // 4:
            self._send()


def pipelined(url: str, exchange: str, key: str, count: int, window: int) -> float:
    """Return the seconds with a window of unconfirmed events."""
    one = Pipelined(url, exchange, key, count, window)
    one.connection.ioloop.start()
    return one.took


def blocking(url: str, exchange: str, key: str, count: int, _: int) -> float:
    """Return the seconds if each message waits for its confirm."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    began = time.perf_counter()
    for number in range(1, count + 1):
        channel.basic_publish(exchange, key, encoded(number), properties(number), mandatory=True)
    took = time.perf_counter() - began
    connection.close()
    return took


def connection(url: str, exchange: str, key: str, count: int, _: int) -> float:
    """Return the seconds if each message has its own connection."""
    began = time.perf_counter()
    for number in range(1, count + 1):
        one = pika.BlockingConnection(pika.URLParameters(url))
        channel = one.channel()
        channel.confirm_delivery()
        channel.basic_publish(exchange, key, encoded(number), properties(number), mandatory=True)
        one.close()
    return time.perf_counter() - began


if __name__ == "__main__":
    ways = {"pipelined": pipelined, "blocking": blocking, "connection": connection}
    way, url, exchange, key, count, window = sys.argv[1:]
    sys.stdout.write(f"{ways[way](url, exchange, key, int(count), int(window))}\n")
