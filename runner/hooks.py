"""What a plugin may implement: pluggy's hook specifications, and the context that hooks are given.

An implementation names only the arguments it wants. ``options`` is an instance of the plugin's own
``Options`` model (any pydantic model of that name in the plugin), checked against config.yaml.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

from runner.messages import Event, Message, TransactionResult

if TYPE_CHECKING:
    from sqlalchemy import Connection, Executable

    from runner.contract import Contract
    from runner.store.event_outbox import EventOutbox
    from runner.store.plugin_tables import Tables
    from runner.store.prepared import Prepared
    from runner.store.store import Store

PROJECT = "fastcommerce"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Context(Protocol):
    """What the worker offers the hooks ``start`` and ``run``."""

    #: The service's name in config.yaml, and the slot it runs in, such as ``payment.2``.
    service: str
    slot: str
    #: Seconds from the order to stop until what is not done is killed.
    stop_timeout: float
    #: Logs with the slot; pass ``extra={"order": id}`` to name the order a line is about.
    log: logging.Logger

    def publish(self, event: Event) -> Future[None]:
        """Publish from any thread; done once the broker has routed and confirmed the event.

        Raises ValueError or TypeError for an event that is not JSON or does not fit AMQP. The future fails with a
        BrokerError: BrokerAway, BrokerBlocked, Unroutable, PublishRefused or ConfirmTimeout. It never stays
        open longer than the confirm timeout (5 s).
        """

    #: Whether a service in config.yaml records events, so that ``order_history`` can answer; only for a service that
    #: consumes no queue.
    has_history: bool

    def order_history(self, order_id: str) -> dict[str, Any] | None:
        """Return what ``order show --json`` prints of an order; None if the event history has none of its events.

        Raises StoreAway if the database is unreachable, and StoreError if it cannot be used.
        """

    @property
    def store(self) -> Store:
        """The database of config.yaml's ``store``, opened at the first use.

        Raises StoreAway where it does not answer for now, and StoreError where it cannot be used.
        """

    @property
    def outbox(self) -> EventOutbox:
        """The outbox of the service: ``context.outbox.transact(work)`` commits rows and events together.

        It is opened at the first use, and from then on publishes what waits, also what an earlier process has left:
        a plugin uses it in ``start`` or at the beginning of ``run``. Raises as ``store``.
        """

    def routed(self, event: Event) -> Event:
        """``event`` as ``publish`` would send it: with its exchange, routing key and id. Raises PluginError."""

    def ready(self, status: str = "", *, needs_broker: bool = True) -> None:
        """Tell the supervisor that this service now does its work, with a few words for people.

        One that does it without the broker too is not called unwell while that is away.
        """

    def listen(self, host: str, port: int) -> socket.socket:
        """A socket that listens there, for a server to accept on; it does not block.

        The supervisor holds it for all instances of the service and beyond the end of each, so that a restart refuses
        no connection. Close it to accept no more, and accept what waits before that: where the address has changed,
        nobody else will. Raises OSError where the address cannot be had.
        """

    def broker_problem(self) -> str | None:
        """Why nothing can be published now, or None when the broker takes messages."""

    def wait_stop(self, timeout: float | None = None) -> bool:
        """Wait until the service is to stop, at most ``timeout`` seconds; True when it is.

        A ``run`` that has called it with a timeout must go on doing so: one that does not within the service's
        ``watchdog`` counts as hung.
        """


class MessageStore(Protocol):
    """What a handler may do in the database while it has one message in hand.

    What it writes is committed, before its events are published and the message is acknowledged: all of it or nothing,
    in a transaction that other messages may share. A write that the database refuses fails the message alone.
    """

    #: Whether the service has ``inbox``: the same message is then never handled twice.
    inbox: bool

    def read(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """All rows of a SELECT, as last committed; one of ``runner.store.prepared`` costs least."""

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> None:
        """Have a statement executed in the message's transaction, once the handler has returned."""

    def transact(self, work: Callable[[Connection], object]) -> TransactionResult:
        """Have ``work`` called in the message's transaction, once the handler has returned.

        It may be called more than once, of which only the last counts, and should do nothing but use its connection.
        What it raises, such as Reject or Retry, undoes the writes of this message alone, and fails the attempt.

        If the handler returns the result of this method, the message's events are those that ``work`` returns, and
        ``work`` runs while no other such work of the plugin runs, in this process or in another: what it reads there
        stays as it is until its writes are committed.
        """


class Hooks:
    """The hooks, in the order in which they are called."""

    @hookspec(firstresult=True)
    def contract(self, options: Any) -> Contract | None:
        """Say which events the service handles and publishes with these options, and on which addresses it listens.

        Called by ``check`` and before each start, in a process of its own that handles no message. It makes wrong
        wiring visible before the first message: a missing or misspelt event under ``publishes`` is an error, and a
        queue that brings events which the service does not handle is a finding. It must return at once and have no
        effect. A plugin without it is not compared with anything.
        """

    @hookspec(firstresult=True)
    def tables(self, options: Any, inbox: bool) -> Tables | None:
        """Declare the tables of the plugin's own, and the steps that changed them since the first version.

        Called once, before ``start``; ``inbox`` is True if the service has an inbox. The worker creates and changes
        the tables in the service's store before the first message. A plugin that returns None has no tables, and its
        store is opened at the first use.
        """

    @hookspec(firstresult=True)
    def start(self, options: Any, context: Context) -> Any:
        """Make what the service needs while it runs, such as a client or compiled templates.

        Called once, on the main thread, before the first message. What it returns is given to the
        other hooks as ``resources``. An exception ends the worker, which is then restarted;
        a ``PluginError`` ends it for good.
        """

    @hookspec(firstresult=True)
    def handle(
        self, message: Message, options: Any, resources: Any, store: MessageStore
    ) -> Event | list[Event] | TransactionResult | None:
        """Handle one message.

        Called on a handler thread; with ``concurrency`` over 1, on several at once. Returns the events to publish;
        the message is acknowledged once the broker has confirmed them all. ``Retry`` and any other exception
        lead to the next delay of the queue's ``retry``; after the last one, or without any, to its
        dead-letter queue, where ``Reject`` leads at once. The same message may come again, so the outcome
        should not depend on chance. What is to be kept goes through ``store``; with ``inbox`` a message that was
        handled before does not get here.
        """

    @hookspec(firstresult=True)
    def run(self, options: Any, resources: Any, context: Context) -> None:
        """Run the service's own loop, such as an HTTP server, until ``context.wait_stop()`` says so.

        Called on the main thread, after ``start``. The loop calls ``context.ready()`` when it serves. A ``run`` that
        returns has done its work: the process ends with 0, and ``restart`` says what follows.
        """

    @hookspec(firstresult=True)
    def stop(self, options: Any, resources: Any) -> None:
        """Release what ``start`` made. Called once, on the main thread, after the last message."""
