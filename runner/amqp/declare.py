"""Declare exchanges, queues and bindings, and say exactly what the broker refuses."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pika
from pika import exceptions
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel

from runner.amqp.link import parameters_of, reason_of
from runner.errors import BrokerAway
from runner.topology.model import Binding, Exchange, Objects, Queue

#: How RabbitMQ words a declaration that differs from what exists, in all versions from 3.10 to 4.3.
_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<key>[^']*)' for (?P<kind>exchange|queue) '.*?' in vhost '.*?':"
    r" received (?:the value )?'?(?P<ours>.*?)'?(?: of type '\w+')? but current is (?:the value )?'?(?P<theirs>.*?)'?"
    r"(?: of type '(?P<type>\w+)')?$"
)
#: A queue's differences are asked for one by one; it cannot have more than this.
_MOST_DIFFERENCES = 20

Declarable = Exchange | Queue | Binding


@dataclass(frozen=True)
class Refusal:
    """One object that the broker does not take as it is declared."""

    thing: Declarable
    text: str


def declare(urls: Sequence[str], objects: Objects, timeout: float = 30.0) -> list[Refusal]:
    """Declare all of ``objects``, pipelined; whatever exists already and is the same stays as it is.

    Returns what the broker refuses; the rest is declared nevertheless. Raises BrokerAway when no broker answers,
    or it goes away meanwhile, or takes longer than ``timeout`` seconds.
    """
    problem = "no address"
    for url in random.sample(list(urls), len(urls)):
        declaration = _Declaration(url, [*objects.exchanges, *objects.queues, *objects.bindings], timeout)
        problem = declaration.run() or ""
        if not problem:
            return declaration.refusals
    raise BrokerAway(problem)


class _Declaration:
    """One connection's life: declare everything, over a new channel after each refusal."""

    def __init__(self, url: str, things: list[Declarable], timeout: float) -> None:
        self._url, self._things, self._timeout = url, things, timeout
        self._loop: Any = IOLoop()
        self._answered = 0
        self._problem: str | None = None
        self._finished = False
        self._differences: list[re.Match[str]] = []
        self.refusals: list[Refusal] = []

    def run(self) -> str | None:
        """Declare; returns why it could not be done, or None."""
        connection = pika.SelectConnection(
            parameters_of(self._url, "runner declare"),
            on_open_callback=self._open_channel,
            on_open_error_callback=self._failed,
            on_close_callback=self._closed,
            custom_ioloop=self._loop,
        )
        self._loop.call_later(self._timeout, lambda: self._end(f"no end after {self._timeout:g} s"))
        self._loop.start()
        if connection.is_open:
            connection.close()
        self._loop.close()
        return self._problem

    def _failed(self, _: Any, error: Exception) -> None:
        self._end(reason_of(error, self._url))

    def _closed(self, _: Any, error: Exception) -> None:
        self._end(None if self._finished else reason_of(error, self._url))

    def _end(self, problem: str | None) -> None:
        self._problem = problem
        self._loop.stop()

    def _open_channel(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._declare_rest)

    def _declare_rest(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._refused)
        if self._answered == len(self._things):
            self._finish(channel.connection)
            return
        for thing in self._things[self._answered :]:
            _send(channel, thing, lambda _: self._count(channel))

    def _count(self, channel: Channel) -> None:
        if self._differences:
            self._refuse(self._things[self._answered], "")
        else:
            self._answered += 1
        if self._answered == len(self._things):
            self._finish(channel.connection)

    def _finish(self, connection: Any) -> None:
        self._finished = True
        connection.close()

    def _refused(self, channel: Channel, error: Exception) -> None:
        if self._finished or not isinstance(error, exceptions.ChannelClosedByBroker):
            return
        # The broker answers in order, so the first declaration without an answer is the refused one.
        thing = self._things[self._answered]
        difference = _INEQUIVALENT.search(error.reply_text)
        if difference is not None:
            self._differences.append(difference)
        agreed = _agreeing(thing, difference)
        if agreed is not None and len(self._differences) < _MOST_DIFFERENCES:
            # The broker names only the first difference. Declared again with the broker's own value for it, the
            # queue shows the next one, or that there is none; nothing changes on the broker.
            self._things[self._answered] = agreed
        else:
            self._refuse(thing, error.reply_text)
        self._open_channel(channel.connection)

    def _refuse(self, thing: Declarable, reply: str) -> None:
        text = difference_text(self._differences) if self._differences else f"the broker refuses it: {reply}"
        self.refusals.append(Refusal(thing, text))
        self._differences.clear()
        self._answered += 1


def _agreeing(thing: Declarable, difference: re.Match[str] | None) -> Queue | None:
    """The queue with the broker's own value for an argument that differs; None where that cannot be done."""
    if difference is None or not isinstance(thing, Queue) or not difference["key"].startswith("x-"):
        return None
    arguments: dict[str, Any] = {key: value for key, value in thing.arguments.items() if key != difference["key"]}
    theirs, kind = difference["theirs"], difference["type"]
    if theirs != "none":
        is_number = kind is not None and kind not in ("longstr", "bool")
        arguments[difference["key"]] = int(theirs) if is_number else theirs == "true" if kind == "bool" else theirs
    return replace(thing, arguments=arguments)


def difference_text(differences: Sequence[re.Match[str]]) -> str:
    """What differs, with both values, and what to do about it."""
    # Another type brings other arguments with it; they are no differences of their own.
    types = [one for one in differences if one["key"] in ("x-queue-type", "type")]
    said = ", ".join(
        f"{one['key']} is {_value(one['ours'])} here, but {_value(one['theirs'])} on the broker"
        for one in types or differences
    )
    kind = differences[0]["kind"]
    cost = "its messages go with it" if kind == "queue" else "its bindings go with it"
    return f"{said}; change it back here, or delete the {kind} on the broker ({cost}) and start again"


def _value(text: str) -> str:
    return "not set" if text == "none" else repr(text)


def _send(channel: Channel, thing: Declarable, callback: Callable[[Any], None]) -> None:
    arguments = dict(thing.arguments)
    if isinstance(thing, Exchange):
        channel.exchange_declare(
            thing.name,
            thing.type,
            durable=thing.durable,
            internal=thing.internal,
            arguments=arguments,
            callback=callback,
        )
    elif isinstance(thing, Queue):
        channel.queue_declare(thing.name, durable=thing.durable, arguments=arguments, callback=callback)
    elif thing.destination_type == "queue":
        channel.queue_bind(thing.destination, thing.source, thing.routing_key, arguments, callback=callback)
    else:
        channel.exchange_bind(thing.destination, thing.source, thing.routing_key, arguments, callback=callback)
