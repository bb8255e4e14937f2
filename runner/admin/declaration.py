"""Declaration of exchanges, queues and bindings, with an exact report of each refusal by the broker."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pika import exceptions
from pika.channel import Channel

from runner.admin.quorum_durability import wait_until_durable
from runner.amqp.reply_code import ACCESS_REFUSED, Close, CloseKind, close_of
from runner.amqp.session import Session
from runner.config.argument import EXCHANGE_POLICY_KEYS, QUEUE_POLICY_KEYS
from runner.config.version import QUORUM
from runner.errors import BrokerRefused, BrokerUnreachable, RunnerError
from runner.topology.model import Binding, Exchange, Objects, Queue

#: RabbitMQ's message for a declaration that differs from the existing object, in all versions from 3.10 to 4.3.
_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<key>[^']*)' for (?P<kind>exchange|queue) '.*?' in vhost '.*?':"
    r" received (?:the value )?'?(?P<ours>.*?)'?(?: of type '\w+')? but current is (?:the value )?'?(?P<theirs>.*?)'?"
    r"(?: of type '(?P<type>\w+)')?$"
)
#: The maximum number of differences to find in one queue. Finding each difference requires another declaration.
_MOST_DIFFERENCES = 20
#: False if the environment contains FASTCOMMERCE_SETTLE=0, for example for a test broker with disposable messages.
SETTLES = os.environ.get("FASTCOMMERCE_SETTLE") != "0"
#: The number of objects above which a declaration uses several connections.
MOST_AT_ONCE = 500
CONNECTIONS = 4

Declarable = Exchange | Queue | Binding


@dataclass(frozen=True)
class RefusedObject:
    """An object whose declaration the broker refuses."""

    thing: Declarable
    text: str
    #: True if the broker's object differs only by missing arguments that a policy can set instead.
    may_be_policy: bool = False
    #: True if the user lacks the permission to declare the object.
    is_denied: bool = False
    #: True if the same declaration may succeed later, for example because the queue is currently exclusive to another
    #: connection.
    may_pass: bool = False

    @property
    def line(self) -> str:
        """A message with the object and the broker's reason."""
        thing = self.thing
        if isinstance(thing, Binding):
            return f"binding from {thing.source!r} to {thing.destination_type} {thing.destination!r}: {self.text}"
        return f"{type(thing).__name__.lower()} {thing.name!r}: {self.text}"


def declare(urls: Sequence[str], objects: Objects, timeout: float = 30.0) -> list[RefusedObject]:
    """Declare all objects. Identical objects that already exist are not changed.

    Returns the refused objects. When the function returns, all other objects are declared and would survive a crash of
    the broker. Raises BrokerRefused if the broker accepts no connection. Raises BrokerUnreachable in four cases:

    - No broker answers.

    - The broker stops answering.

    - The declaration takes longer than ``timeout`` seconds.

    - Objects are refused, but all of them may be accepted later.
    """
    refusals = _declare_all(urls, objects, timeout)
    if refusals and all(one.may_pass for one in refusals):
        raise BrokerUnreachable("\n".join(one.line for one in refusals))
    if SETTLES and any(queue.type == QUORUM for queue in objects.queues):
        wait_until_durable(urls)
    return refusals


def _declare_all(urls: Sequence[str], objects: Objects, timeout: float) -> list[RefusedObject]:
    parts: list[Sequence[Declarable]] = [objects.exchanges, objects.queues, objects.bindings]
    things = [thing for part in parts for thing in part]
    if len(things) <= MOST_AT_ONCE:
        return _declare(urls, things, timeout)
    # The broker handles several connections in parallel. Exchanges and queues must exist before their bindings.
    refusals: list[RefusedObject] = []
    with ThreadPoolExecutor(CONNECTIONS, "declare") as pool:
        for shares in map(_shares, parts):
            for one in pool.map(partial(_declare, urls, timeout=timeout), shares):
                refusals += one
    return refusals


def _shares(things: Sequence[Declarable]) -> list[list[Declarable]]:
    return [list(things[number::CONNECTIONS]) for number in range(min(CONNECTIONS, len(things)))]


def _declare(urls: Sequence[str], things: list[Declarable], timeout: float) -> list[RefusedObject]:
    problem: RunnerError = BrokerUnreachable("no address")
    for url in random.sample(list(urls), len(urls)):
        declaration = _Declaration(url, things)
        try:
            declaration.run(timeout)
        except BrokerUnreachable as error:
            # A refusal is more informative than the failure of a node to answer.
            problem = problem if isinstance(problem, BrokerRefused) else error
        except BrokerRefused as error:
            problem = error
        else:
            return declaration.refusals
    raise problem


class _Declaration:
    """A session that declares all objects, and opens a new channel or connection after each refusal."""

    def __init__(self, url: str, things: list[Declarable]) -> None:
        self._url = url
        self._things = list(things)
        self._answered = 0
        self._differences: list[re.Match[str]] = []
        #: Details of the close, if the broker answered a declaration by closing the connection.
        self._closed_by: Close | None = None
        self.refusals: list[RefusedObject] = []

    def run(self, timeout: float) -> None:
        """Declare the objects. Raises BrokerUnreachable, and BrokerRefused if the broker accepts no connection."""
        while True:
            self._closed_by = None
            self._session = Session(self._url, "runner declare", self._declare_rest)
            try:
                self._session.run(timeout)
            except BrokerRefused:
                # RabbitMQ answers some declarations, for example with an unknown exchange type, by closing the
                # connection.
                if self._closed_by is None or self._answered == len(self._things):
                    raise
                self._refuse(self._things[self._answered], self._closed_by)
            else:
                return

    def _declare_rest(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._refused)
        if self._answered == len(self._things):
            self._session.finish()
            return
        for thing in self._things[self._answered :]:
            _send(channel, thing, lambda _: self._count())

    def _count(self) -> None:
        if self._differences:
            self._refuse(self._things[self._answered], None)
        else:
            self._answered += 1
        if self._answered == len(self._things):
            self._session.finish()

    def _refused(self, _: Channel, error: Exception) -> None:
        close = close_of(error)
        if self._session.is_finished or self._answered == len(self._things):
            return
        if not isinstance(error, exceptions.ChannelClosedByBroker):
            self._closed_by = close if isinstance(error, exceptions.ConnectionClosedByBroker) else None
            return
        # The broker answers in order, so the first declaration without an answer is the refused declaration.
        thing = self._things[self._answered]
        difference = _INEQUIVALENT.search(error.reply_text)
        if difference is not None:
            self._differences.append(difference)
        agreed = _agreeing(thing, difference)
        if agreed is not None and len(self._differences) < _MOST_DIFFERENCES:
            # The broker reports only the first difference. So the queue is declared again with the broker's value for
            # this argument. The broker then reports the next difference or accepts the declaration. Neither answer
            # changes the queue.
            self._things[self._answered] = agreed
        else:
            self._refuse(thing, close)
        self._session.open_channel()

    def _refuse(self, thing: Declarable, close: Close | None) -> None:
        """Record a refusal. ``close`` is None if all differences are known."""
        if self._differences or close is None:
            text, is_denied, may_pass = difference_text(self._differences), False, False
        else:
            text = f"the broker refuses it: {close.reason}"
            is_denied, may_pass = close.code == ACCESS_REFUSED, close.verdict is CloseKind.PASSES
        may_be_policy = bool(self._differences) and all(
            one["theirs"] == "none" and one["key"].removeprefix("x-") in (*QUEUE_POLICY_KEYS, *EXCHANGE_POLICY_KEYS)
            for one in self._differences
        )
        self.refusals.append(RefusedObject(thing, text, may_be_policy, is_denied, may_pass))
        self._differences.clear()
        self._answered += 1


def _agreeing(thing: Declarable, difference: re.Match[str] | None) -> Queue | None:
    """Return the queue with the broker's value for a differing argument, or None if no queue argument differs."""
    if difference is None or not isinstance(thing, Queue) or not difference["key"].startswith("x-"):
        return None
    arguments: dict[str, Any] = {key: value for key, value in thing.arguments.items() if key != difference["key"]}
    theirs, kind = difference["theirs"], difference["type"]
    if theirs != "none":
        is_number = kind is not None and kind not in ("longstr", "bool")
        arguments[difference["key"]] = int(theirs) if is_number else theirs == "true" if kind == "bool" else theirs
    return replace(thing, arguments=arguments)


def difference_text(differences: Sequence[re.Match[str]]) -> str:
    """Return a text with the differences, both values and the remedy."""
    # A different type causes further differences, which are not mentioned.
    types = [one for one in differences if one["key"] in ("x-queue-type", "type")]
    said = ", ".join(
        f"{one['key']} is {_value(one['ours'])} here, but {_value(one['theirs'])} on the broker"
        for one in types or differences
    )
    kind = differences[0]["kind"]
    cost = "with its messages" if kind == "queue" else "with its bindings"
    return f"{said}; change it back here, or delete the {kind} on the broker {cost} and start again"


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
            auto_delete=thing.auto_delete,
            arguments=arguments,
            callback=callback,
        )
    elif isinstance(thing, Queue):
        channel.queue_declare(
            thing.name, durable=thing.durable, auto_delete=thing.auto_delete, arguments=arguments, callback=callback
        )
    elif thing.destination_type == "queue":
        channel.queue_bind(thing.destination, thing.source, thing.routing_key, arguments, callback=callback)
    else:
        channel.exchange_bind(thing.destination, thing.source, thing.routing_key, arguments, callback=callback)
