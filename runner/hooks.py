"""The hooks that a plugin can implement, and the objects that hooks get.

The hooks are pluggy's hook specifications. A plugin implements any of them, and lists only the arguments that it uses.
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
    """The worker's interface for the hooks ``start`` and ``run``."""

    #: The name of the service in config.yaml.
    service: str
    #: The slot of this process, such as ``payment.2``.
    slot: str
    #: Seconds between the request to stop and the kill.
    stop_timeout: float
    #: A logger that adds the slot to each line. ``extra={"order": id}`` also adds the id of an order.
    log: logging.Logger

    def publish(self, event: Event) -> Future[None]:
        """Publish an event from any thread. The future is done when the broker has routed and confirmed the event.

        The future is done within the confirm timeout (5 s). If it fails, its exception is a BrokerError:
        BrokerUnreachable, BrokerBlocked, Unroutable, PublishRefused or ConfirmTimeout.

        Raises ValueError or TypeError if the body is not JSON, or if a property of the event does not fit AMQP.
        """

    #: True if ``order_history`` is available. This requires a service in config.yaml that records events. The service
    #: itself must not consume a queue.
    has_history: bool

    def order_history(self, order_id: str) -> dict[str, Any] | None:
        """Return the output of ``order history --json`` for an order, or None if the history has no event of the order.

        Raises StoreUnreachable if the database is unreachable, and StoreError if it cannot be used.
        """

    @property
    def store(self) -> Store:
        """The database under ``store`` in config.yaml, opened at its first use.

        Raises StoreUnreachable if the database is unreachable, and StoreError if it cannot be used.
        """

    @property
    def outbox(self) -> EventOutbox:
        """The outbox of the service: ``context.outbox.transact(work)`` commits rows and events together.

        Once this property is used, the outbox publishes waiting events, including events from an earlier process. So a
        plugin should use it in ``start`` or at the start of ``run``. Raises the same errors as ``store``.
        """

    def routed(self, event: Event) -> Event:
        """Return ``event`` with its exchange, routing key and id, as ``publish`` would send it. Raises PluginError."""

    def ready(self, status: str = "", *, needs_broker: bool = True) -> None:
        """Report to the supervisor that this service is ready. ``status`` is a short text for people.

        With ``needs_broker=False``, the service counts as healthy even while the broker is unreachable.
        """

    def listen(self, host: str, port: int) -> socket.socket:
        """Return a non-blocking socket that listens on the address.

        The supervisor keeps the socket open for all instances of the service, even after an instance exits. So no
        connection is refused during a restart. Close the socket to stop accepting. Before that, accept all waiting
        connections, because no other process accepts them if the address has changed. Raises OSError if the address
        cannot be used.
        """

    def broker_problem(self) -> str | None:
        """Return the reason why events currently cannot be published, or None if the broker accepts messages."""

    def wait_stop(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds for the request to stop. Return True if the service has to stop.

        After the first call with a timeout, ``run`` must repeat the call. If the next call does not come within the
        service's ``watchdog``, the service counts as hung.
        """


class MessageStore(Protocol):
    """The interface of the database for the handler of one message.

    The worker commits all writes of the handler together, before it publishes the events and acknowledges the message.
    Other messages may share the transaction. If the database refuses a write, only this message fails.
    """

    #: True if the service has an ``inbox``, so that no message is handled twice.
    inbox: bool

    def read(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Return all committed rows of a SELECT. Statements from ``prepared`` are executed fastest."""

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> None:
        """Execute a statement in the transaction of the message, after the handler has returned."""

    def transact(self, work: Callable[[Connection], object]) -> TransactionResult:
        """Call ``work`` in the transaction of the message, after the handler has returned.

        ``work`` should use nothing but its connection, because it may be called more than once. Only the last call
        counts. If ``work`` raises an exception, such as Reject or Retry, the attempt fails, and the writes of this
        message are undone.

        If the handler returns the result of this method, the worker publishes the events that ``work`` returns. The
        plugin then runs only one such function at a time, in all its processes. So the rows that ``work`` has read do
        not change before its writes are committed.
        """


class Hooks:
    """The hooks, in the order in which they are called."""

    @hookspec(firstresult=True)
    def contract(self, options: Any) -> Contract | None:
        """Declare the events that the service handles and publishes with these options, and its addresses.

        Called by ``check`` and before each start, in a separate process that handles no message. So errors in the
        configuration are found before the first message. A missing or misspelled event under ``publishes`` is an error.
        A queue that delivers events which the service does not handle is a finding. The hook must return at once and
        must not have side effects. A plugin without this hook is not checked.
        """

    @hookspec(firstresult=True)
    def tables(self, options: Any, inbox: bool) -> Tables | None:
        """Declare the plugin's own tables, and all migration steps since their first version.

        Called once, before ``start``. ``inbox`` is True if the service has an inbox. Before the first message, the
        worker creates or migrates the tables in the store of the service. A plugin without tables returns None. Its
        store is then opened at its first use.
        """

    @hookspec(firstresult=True)
    def start(self, options: Any, context: Context) -> Any:
        """Create the resources of the service, such as a client or compiled templates.

        Called once, on the main thread, before the first message. The other hooks get the result as ``resources``.
        After an exception the worker exits, and the supervisor restarts it. After a ``PluginError`` the service is
        FATAL.
        """

    @hookspec(firstresult=True)
    def handle(
        self, message: Message, options: Any, resources: Any, store: MessageStore
    ) -> Event | list[Event] | TransactionResult | None:
        """Handle one message.

        Called on a handler thread. With ``concurrency`` over 1, several threads call the hook at the same time. The
        hook returns the events to publish. When the broker has confirmed all events, the worker acknowledges the
        message.

        After ``Retry`` or any other exception, the message is retried after the next delay under the queue's ``retry``.
        After the last attempt it is dead-lettered. After ``Reject`` it is dead-lettered at once.

        The same message may be delivered again, so the outcome should not depend on chance. Write data through
        ``store``. With ``inbox``, the hook does not get a message that was handled before.
        """

    @hookspec(firstresult=True)
    def run(self, options: Any, resources: Any, context: Context) -> None:
        """Run the service's own loop, such as an HTTP server, until ``context.wait_stop()`` returns True.

        Called on the main thread, after ``start``. The loop calls ``context.ready()`` when the service is ready. When
        ``run`` returns, the process exits with 0, and ``restart`` in config.yaml decides about a restart.
        """

    @hookspec(firstresult=True)
    def stop(self, options: Any, resources: Any) -> None:
        """Release the resources of ``start``. Called once, on the main thread, after the last message."""
