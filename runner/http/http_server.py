"""The HTTP server of a service, with its limits, its event loop and its shutdown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Self

from runner.http import MAX_THREADS
from runner.http.direct_routes import DirectRoute, DirectRoutes
from runner.http.endpoint import Shortage, bind, most_connections
from runner.http.poller import Poller
from runner.http.request_checks import LOCAL, AllowedHosts, RequestChecks
from runner.http.streams import MAX_STREAMS, Feed, Streams
from runner.http.waitress_adapter import Acceptor, StrictChannel, adjustments
from runner.ipc.listening import BACKLOG, drop_new_connections, has_handshakes, has_waiting, is_given_up

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from runner import Context

MAX_BODY_BYTES = 64 * 1024
#: The maximum number of connections. An additional connection closes the connection that has been idle the longest.
MAX_CONNECTIONS = 512
#: The maximum time in seconds for an idle connection, and for the arrival of a request.
REQUEST_SECONDS = 20
#: The interval in seconds between comments that keep an idle stream open.
HEARTBEAT_SECONDS = 10
#: The number of seconds of ``stop_timeout`` that are reserved for closing connections and stopping threads.
STOP_RESERVE = 2.0
#: The time in seconds for clients to complete their TCP handshakes before the service stops listening.
HANDSHAKE_SECONDS = 0.5
#: The number of seconds before the end of a shutdown at which unconfirmed requests on direct routes are refused.
REFUSE_SECONDS = 0.5
#: The time in seconds for writing the remaining log lines during a shutdown.
LOG_SECONDS = 0.5
#: An iteration of the event loop accepts one connection, so that all processes on the address get connections.
#: Unanswered requests make iterations longer. Therefore, an iteration accepts one more connection for each
#: ``UNANSWERED_PER_ACCEPT`` unanswered requests, up to ``MAX_ACCEPTS`` connections.
MAX_ACCEPTS, UNANSWERED_PER_ACCEPT = 16, 4
#: The interval in seconds between checks for unanswered requests during a shutdown.
DRAIN_POLL_SECONDS = 0.05
#: The pause in seconds if no descriptor is free for a new connection and no connection is idle.
SHORTAGE_PAUSE = 0.01
#: The interval in seconds between checks for a stop request.
POLL_SECONDS = 0.2


class HttpServer:
    """An HTTP server in which slow clients do not block other clients, and waiting requests do not block probes.

    All clients and probes still wait for the event loop, which also serves direct routes. Under load, an iteration of
    the event loop takes 10 ms or more.
    """

    def __init__(
        self,
        app: WSGIApplication,
        context: Context,
        *,
        host: str,
        port: int,
        allowed_hosts: Iterable[str],
        threads: int,
        max_body_bytes: int,
        direct: Mapping[tuple[str, str], DirectRoute],
    ) -> None:
        """Listen on ``host`` and ``port``. Raises PluginError or RunnerError with a remedy."""
        hosts = AllowedHosts(allowed_hosts, host)
        self._socket = sock = bind(host, port, context)
        self._loop_thread = threading.get_ident()
        self._most, self._shortage = most_connections(MAX_CONNECTIONS, context.log), Shortage(context.log)
        self._poller = Poller()
        self._direct = DirectRoutes(direct, context, hosts, self._poller.wake)
        self._streams = Streams(self._poller.wake, min(MAX_STREAMS, max(1, self._most // 2)))
        self._heartbeat = 0.0
        #: True if each response announces that the connection will be closed.
        self.is_stopping = False
        limits = adjustments(sock, threads, max_body_bytes, self._most, REQUEST_SECONDS)
        self._acceptor = Acceptor(RequestChecks(app, hosts, context.log), sock, limits, self._poller, self)
        self._drain_seconds = max(0.5, context.stop_timeout - STOP_RESERVE)
        host, port = sock.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        self._direct.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection and stop the threads."""
        self._acceptor.end()
        self._poller.close()
        self._direct.stop(LOG_SECONDS)

    def serve(self, wait_stop: Callable[[float], bool]) -> None:
        """Serve until ``wait_stop`` returns True, and then answer the requests that have arrived."""
        while not wait_stop(0):
            until = time.monotonic() + POLL_SECONDS
            while (left := until - time.monotonic()) > 0:
                self.turn(left)
        deadline = time.monotonic() + self._drain_seconds
        self.is_stopping = self._direct.is_stopping = True
        self._stop_accepting()
        started = time.monotonic()
        last_call = deadline - min(REFUSE_SECONDS, self._drain_seconds / 2)
        while self._acceptor.channels and (now := time.monotonic()) < deadline:
            self._acceptor.maintain_when_due()
            if now >= last_call:
                self._direct.give_up_all()
            for channel in tuple(self._acceptor.channels):
                if channel.is_streaming and channel.backlog:
                    channel.disconnect()  # the client reads too slowly or not at all
                elif channel.is_done(now - started):
                    channel.end()
            self.turn(DRAIN_POLL_SECONDS)

    def turn(self, seconds: float) -> None:
        """Publish events and send responses, then wait at most ``seconds`` for ready sockets and handle the sockets."""
        # From this point, every change wakes the poller.
        self._poller.fall_asleep()
        self._direct.work()
        self._streams.work()
        self._poller.wait(seconds)

    def _stop_accepting(self) -> None:
        """Stop listening without resetting waiting connections, even if no other process has the listening socket."""
        if is_given_up(self._socket):
            drop_new_connections(self._socket)
            until = time.monotonic() + HANDSHAKE_SECONDS
            while has_handshakes(self._socket) and time.monotonic() < until:
                self.turn(0.01)
        for _ in range(BACKLOG):  # any further connections are new, and other processes on the socket accept them
            if not has_waiting(self._socket):
                break
            self.accept()
        self._acceptor.stop_accepting()

    # The acceptor and its connections call the following methods.

    def begin(self, channel: StrictChannel) -> None:
        """Start a request on its direct route, or on a thread."""
        if threading.get_ident() != self._loop_thread or not self._direct.take(channel):
            self._acceptor.give(channel)

    def accept(self) -> None:
        """Accept a few waiting connections. Above the maximum, close one idle connection for each new connection."""
        for _ in range(min(MAX_ACCEPTS, 1 + self._direct.unanswered() // UNANSWERED_PER_ACCEPT)):
            if not self._acceptor.accept_one():
                break
            if len(self._acceptor.channels) > self._most:
                self._make_room()

    def lack_descriptor(self, error: OSError) -> None:
        """Close an idle connection, so that a new connection that is waiting in the kernel gets the descriptor."""
        self._shortage.report(error)
        if not self._make_room():
            time.sleep(SHORTAGE_PAUSE)  # without a pause, the loop would retry immediately

    def _make_room(self) -> bool:
        """Close the connection that has been idle the longest. Return False if no connection is idle."""
        idle = [one for one in self._acceptor.channels if one.is_idle()]
        if idle:
            min(idle, key=lambda channel: channel.silent_since).end()
        return bool(idle)

    def maintain(self, now: float) -> None:
        """Close connections whose request arrives too slowly, and connections whose client does not read responses."""
        oldest = time.monotonic() - REQUEST_SECONDS
        for channel in tuple(self._acceptor.channels):
            if channel.is_stuck(now - 2 * REQUEST_SECONDS):
                # waitress closes a connection only when the socket is writable, which never happens if the client does
                # not read.
                channel.disconnect()
            elif (started := channel.request_started) is not None and started < oldest:
                channel.end()
        self._poller.watch_all()
        self._direct.give_up_late()
        if now >= self._heartbeat:
            self._heartbeat = now + HEARTBEAT_SECONDS
            self._streams.keep_alive()

    def reserve_stream(self, channel: StrictChannel) -> None:
        """Count a connection as a stream. Raises Problem (503) if too many streams are open."""
        self._streams.reserve(channel)

    def begin_stream(self, channel: StrictChannel, head: bytes, feed: Feed) -> None:
        """Pass a connection to the event loop as a stream."""
        self._streams.begin(channel, head, feed)

    def forget(self, channel: StrictChannel) -> None:
        """Stop counting a closed connection as a stream."""
        self._streams.forget(channel)


def serve(
    app: WSGIApplication,
    context: Context,
    *,
    host: str,
    port: int,
    allowed_hosts: Iterable[str] = LOCAL,
    threads: int = 16,
    max_body_bytes: int = MAX_BODY_BYTES,
    direct: Mapping[tuple[str, str], DirectRoute] | None = None,
    needs_broker: bool = True,
) -> None:
    """Serve a WSGI application, such as a Flask application, until the service must stop.

    Call this function in the ``run`` hook.

    - ``port`` 0 selects any free port. The service's log and ``status`` show the selected port.
    - ``allowed_hosts`` contains the allowed values of the Host header, in addition to ``host``. ``*`` allows any value.
    - ``direct`` maps a method and a path to a function, such as ``("POST", "/orders")``. The event loop calls this
      function before the application. The function gets a DirectRequest and must not block. If the function returns
      None, the application answers the request.
    - ``needs_broker`` is False for a service that works without the broker.

    The server refuses requests that exceed its limits or are ambiguous, and answers them with problem details. If the
    application raises ``Problem``, the client also gets problem details.

    Raises PluginError or RunnerError if the server cannot listen, and ValueError for an invalid argument.
    """
    if not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"threads: {threads} is out of range; allowed: 1 to {MAX_THREADS}")
    if max_body_bytes < 0:
        raise ValueError(f"max_body_bytes: {max_body_bytes} is out of range; allowed: 0 or more")
    if isinstance(allowed_hosts, str):
        # A string is iterable, so each of its characters would be used as a host.
        raise ValueError(f"allowed_hosts: not a list, {allowed_hosts!r}; allowed: a list of names")
    with HttpServer(
        app, context, host=host, port=port, allowed_hosts=allowed_hosts, threads=threads,
        max_body_bytes=max_body_bytes, direct=direct or {},
    ) as server:  # fmt: skip
        context.ready(f"listening on {server.url}", needs_broker=needs_broker)
        server.serve(context.wait_stop)
