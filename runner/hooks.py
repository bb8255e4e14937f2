"""The hooks that a plugin can implement, and the objects that are passed to hooks.

The hooks are pluggy hook specifications. A plugin implements the hooks that it needs. Each implementation declares only
the arguments that it uses.
``options`` is an instance of the plugin's pydantic model ``Options``, with the values from config.yaml.
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

    from runner.contract import Contract, Tables
    from runner.store.outbox import EventOutbox
    from runner.store.prepared import Prepared
    from runner.store.process_store import Store

PROJECT = "fastcommerce"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Context(Protocol):
    """The interface to the worker for the ``start`` and ``run`` hooks."""

    #: The name of the service in config.yaml.
    service: str
    #: The slot of this process, such as ``payment.2``.
    slot: str
    #: The time in seconds from a stop request until the supervisor kills the process.
    stop_timeout: float
    #: A logger that adds the slot to each line. ``extra={"order": id}`` also adds an order id.
    log: logging.Logger

    def publish(self, event: Event) -> Future[None]:
        """Publish an event from any thread. The future is done when the broker has routed and confirmed the event.

        The future is done within the confirm timeout (5 s). If publishing fails, the future raises a subclass of
        BrokerError: BrokerUnreachable, BrokerBlocked, Unroutable, PublishRefused or ConfirmTimeout.

        Raises ValueError or TypeError if the body cannot be converted to JSON, or if AMQP does not allow a property of
        the event.
        """

    #: True if ``order_history`` is available. The method requires a service in config.yaml that
    #: records events, and is available only to services that consume no queue.
    has_history: bool

    def order_history(self, order_id: str) -> dict[str, Any] | None:
        """Return the output of ``order history --json``, or None if the event history does not contain the order.

        Raises StoreUnreachable if the database is unreachable, and StoreError if it cannot be used.
        """

    @property
    def store(self) -> Store:
        """The database from ``store`` in config.yaml, which is opened on first use.

        Raises StoreUnreachable if the database is unreachable, and StoreError if it cannot be used.
        """

    @property
    def outbox(self) -> EventOutbox:
        """The outbox of the service. ``context.outbox.transact(work)`` commits rows and events together.

        Waiting events, including events from an earlier process, are published only after the first use of this
        property. A plugin should therefore use the outbox in ``start`` or at the beginning of ``run``. Raises the same
        errors as ``store``.
        """

    def routed(self, event: Event) -> Event:
        """Return ``event`` with the exchange, routing key and id that ``publish`` would use.

        Raises PluginError if ``publishes`` in config.yaml does not contain the exchange or the type of the event.
        """

    def ready(self, status: str = "", *, needs_broker: bool = True) -> None:
        """Report to the supervisor that this service is ready. ``status`` is a short text for people.

        With ``needs_broker=False``, the service counts as healthy even while the broker is unreachable.
        """

    def listen(self, host: str, port: int) -> socket.socket:
        """Return a non-blocking socket that listens on the address.

        The supervisor keeps the socket open for all instances of the service, even after an instance exits, so that no
        connection is refused during a restart. Before you close the socket, accept all waiting connections, because no
        other process accepts these connections if the address has changed. Raises OSError if the address cannot be
        used.
        """

    def broker_problem(self) -> str | None:
        """Return the reason why events currently cannot be published, or None if the broker accepts messages."""

    def wait_stop(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds for a stop request. Return True if the service has to stop.

        After the first call with a timeout, ``run`` must call this method repeatedly. If the next call is not made
        within the ``watchdog`` time of the service, the service counts as hung.
        """


class MessageStore(Protocol):
    """The interface to the database for the handler of one message.

    The worker commits all writes of the handler together, before it publishes the events and acknowledges the message.
    A transaction may contain the writes of several messages. If the database refuses a write, only the message that
    caused the write fails.
    """

    #: True if the service has an ``inbox``, so that no message is handled twice.
    inbox: bool

    def read(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Execute a SELECT and return all committed rows. Statements from ``prepared`` are the fastest."""

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> None:
        """Execute a statement in the transaction of the message, after the handler has returned."""

    def transact(self, work: Callable[[Connection], object]) -> TransactionResult:
        """Call ``work`` in the transaction of the message, after the handler has returned.

        ``work`` should use only its connection, because it may be called more than once. Only the last call takes
        effect. If ``work`` raises an exception, such as Reject or Retry, the attempt fails, and the writes of this
        message are rolled back.

        If the handler returns the result of this method, the worker publishes the events that ``work`` returns. A
        plugin whose handlers return such results runs only one ``work`` function at a time, across all processes. The
        rows that ``work`` reads therefore do not change before its writes are committed.
        """


class Hooks:
    """The hooks, in the order of their calls."""

    @hookspec(firstresult=True)
    def contract(self, options: Any) -> Contract | None:
        """Declare the events that the service handles and publishes, and the addresses on which it listens.

        Called by ``check`` and before each start, in a separate process that handles no messages. Configuration errors
        are therefore found before the first message. A missing or misspelled event under ``publishes`` is an error. A
        queue with events that the service does not handle causes a ``lint`` finding. The hook must return immediately
        and must not have side effects. The events of a plugin without this hook are not checked.
        """

    @hookspec(firstresult=True)
    def tables(self, options: Any, inbox: bool) -> Tables | None:
        """Declare the plugin's own tables, and all migration steps since their first version.

        Called once, before ``start``. ``inbox`` is True if the service has an inbox. Before the first message, the
        worker creates or migrates the tables in the store of the service. If the hook returns None, the plugin has no
        tables, and its store is opened on first use.
        """

    @hookspec(firstresult=True)
    def start(self, options: Any, context: Context) -> Any:
        """Create the resources of the service, such as a client or compiled templates.

        Called once, on the main thread, before the first message. Later hooks get the result as ``resources``. If the
        hook raises an exception, the worker exits, and the supervisor restarts it. If the exception is a
        ``PluginError``, the service becomes FATAL.
        """

    @hookspec(firstresult=True)
    def handle(
        self, message: Message, options: Any, resources: Any, store: MessageStore
    ) -> Event | list[Event] | TransactionResult | None:
        """Handle one message.

        Called on a handler thread. If ``concurrency`` is greater than 1, several threads may call the hook at the same
        time. The hook returns the events to publish. When the broker has confirmed all events, the worker acknowledges
        the message.

        If the hook raises ``Retry`` or any other exception, the message is retried after the next of the queue's retry
        delays. After the last attempt, the message is dead-lettered. If the hook raises ``Reject``, the message is
        dead-lettered immediately.

        A message may be delivered more than once, so the result of the hook should be deterministic. Write data through
        ``store``. With ``inbox``, the hook is not called for a message that was handled before.
        """

    @hookspec(firstresult=True)
    def run(self, options: Any, resources: Any, context: Context) -> None:
        """Run the service's own loop, such as an HTTP server, until ``context.wait_stop()`` returns True.

        Called on the main thread, after ``start``. The loop calls ``context.ready()`` when the service is ready. When
        ``run`` returns, the process exits with code 0. ``restart`` in config.yaml determines whether the process
        is restarted.
        """

    @hookspec(firstresult=True)
    def stop(self, options: Any, resources: Any) -> None:
        """Release the resources that ``start`` created. Called once, on the main thread, after the last message."""
