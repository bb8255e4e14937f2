"""The server of a service: its limits, its turns, and its stop in good order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Self

from runner.http import MAX_THREADS
from runner.http.descriptors import Shortage, most_connections
from runner.http.direct_routes import DirectRoute, DirectRoutes
from runner.http.endpoint import bind
from runner.http.poller import Poller
from runner.http.request_checks import LOCAL, AllowedHosts, RequestChecks
from runner.http.streams import MAX_STREAMS, Feed, Streams
from runner.http.waitress_adapter import Acceptor, StrictChannel, adjustments
from runner.ipc.listening import BACKLOG, has_handshakes, has_waiting, is_given_up, turn_away

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from runner import Context

MAX_BODY_BYTES = 64 * 1024
#: Over this many connections the one that has been silent longest makes room for the newest.
MAX_CONNECTIONS = 512
#: A connection may be silent, and one request may take to arrive, this long.
REQUEST_SECONDS = 20
#: Between two signs of life of a stream.
HEARTBEAT_SECONDS = 10
#: This much of the time to stop is kept from the unanswered requests.
STOP_RESERVE = 2.0
#: When the address is given up, clients that are connecting to it may take this long.
HANDSHAKE_SECONDS = 0.5
#: At the stop, requests on a direct route whose confirm has not come are refused so long before the end.
REFUSE_SECONDS = 0.5
#: And their log lines may take this long to be written.
LOG_SECONDS = 0.5
#: Connections accepted in a turn: one, so that all processes that share the address get some; more while
#: unanswered requests make turns long, one for this many of them.
MAX_ACCEPTS, UNANSWERED_PER_ACCEPT = 16, 4
#: How often it is checked, while stopping, whether all is done.
DRAIN_POLL_SECONDS = 0.05
#: Seconds to wait when there is no descriptor for a new connection, and none of the others can go.
SHORTAGE_PAUSE = 0.01
#: How soon a stop is noticed.
POLL_SECONDS = 0.2


class HttpServer:
    """Accepts connections; slow clients keep out no others, nor do requests that wait for the broker keep out probes.

    They still wait for the loop itself, which reads and answers direct routes: 10 ms or more a turn under load.
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
        """Listen. Raises PluginError and RunnerError with the remedy."""
        hosts = AllowedHosts(allowed_hosts, host)
        self._socket = sock = bind(host, port, context)
        self._loop_thread = threading.get_ident()
        self._most, self._shortage = most_connections(MAX_CONNECTIONS, context.log), Shortage(context.log)
        self._poller = Poller()
        self._direct = DirectRoutes(direct, context, hosts, self._poller.wake)
        self._streams = Streams(self._poller.wake, min(MAX_STREAMS, max(1, self._most // 2)))
        self._heartbeat = 0.0
        #: From then on clients learn that their connections end.
        self.is_stopping = False
        limits = adjustments(sock, threads, max_body_bytes, self._most, REQUEST_SECONDS)
        self._acceptor = Acceptor(RequestChecks(app, hosts, context.log), sock, limits, self._poller, self)
        # What is left of the time to stop is for closing down.
        self._drain_seconds = max(0.5, context.stop_timeout - STOP_RESERVE)
        host, port = sock.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        self._direct.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection and end the threads."""
        self._acceptor.end()
        self._poller.close()
        self._direct.stop(LOG_SECONDS)

    def serve(self, wait_stop: Callable[[float], bool]) -> None:
        """Serve until ``wait_stop`` says so, then answer the requests that have come."""
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
            for channel in self._acceptor.channels:
                if channel.is_done(now - started):
                    channel.end()
            self.turn(DRAIN_POLL_SECONDS)

    def turn(self, seconds: float) -> None:
        """Do what is known by now, then wait for at most so many seconds for what comes next, and read it."""
        # What changes from here on wakes the poller.
        self._poller.fall_asleep()
        self._direct.work()
        self._streams.work()
        self._poller.wait(seconds)

    def _stop_accepting(self) -> None:
        """Close the listening socket; no client that waits there is reset if this process is the last to have it."""
        if is_given_up(self._socket):
            turn_away(self._socket)
            until = time.monotonic() + HANDSHAKE_SECONDS
            while has_handshakes(self._socket) and time.monotonic() < until:
                self.turn(0.01)
        for _ in range(BACKLOG):  # more than that are new ones, for the others that share it
            if not has_waiting(self._socket):
                break
            self.accept()
        self._acceptor.stop_accepting()

    # What the acceptor and its connections ask.

    def begin(self, channel: StrictChannel) -> None:
        """Begin a request: on its direct route, or on a thread."""
        if threading.get_ident() != self._loop_thread or not self._direct.take(channel):
            self._acceptor.give(channel)

    def accept(self) -> None:
        """Accept some of the connections that wait; for each over the most close the longest silent one."""
        for _ in range(min(MAX_ACCEPTS, 1 + self._direct.unanswered() // UNANSWERED_PER_ACCEPT)):
            if not self._acceptor.accept_one():
                break
            if len(self._acceptor.channels) > self._most:
                self._make_room()

    def lack_descriptor(self, error: OSError) -> None:
        """Make room for a connection for which there is no descriptor; it waits in the kernel until then."""
        self._shortage.report(error)
        if not self._make_room():
            time.sleep(SHORTAGE_PAUSE)  # otherwise the loop would ask again and again

    def _make_room(self) -> bool:
        """Close the connection that has been silent longest; returns False if none is silent."""
        idle = [one for one in self._acceptor.channels if one.is_idle()]
        if idle:
            min(idle, key=lambda channel: channel.silent_since).end()
        return bool(idle)

    def maintain(self, now: float) -> None:
        """Close connections whose request trickles in, and those whose client does not read."""
        oldest = time.monotonic() - REQUEST_SECONDS
        for channel in tuple(self._acceptor.channels):
            if channel.is_stuck(now - 2 * REQUEST_SECONDS):
                # It can never be written to, which is when waitress closes one.
                channel.disconnect()
            elif (started := channel.request_started) is not None and started < oldest:
                channel.end()
        self._poller.watch_all()
        self._direct.give_up_late()
        if now >= self._heartbeat:
            self._heartbeat = now + HEARTBEAT_SECONDS
            self._streams.keep_alive()

    def reserve_stream(self, channel: StrictChannel) -> None:
        """Keep a place for a stream. Raises Problem, a 503, if there is none."""
        self._streams.reserve(channel)

    def begin_stream(self, channel: StrictChannel, head: bytes, feed: Feed) -> None:
        """Have the loop write to a connection, which is a stream from now on."""
        self._streams.begin(channel, head, feed)

    def forget(self, channel: StrictChannel) -> None:
        """Free the place of a closed connection."""
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
    """Serve a WSGI application, such as a Flask one, until the service is to stop; for the hook ``run``.

    - ``port`` 0 is any free port. The service's log and ``status`` name it.
    - ``allowed_hosts`` are the values of the Host header besides ``host`` that get an answer; ``*`` allows any.
    - ``direct`` are routes by method and path, such as ``("POST", "/orders")``, that the loop asks before the
      application. Each gets a DirectRequest and must not wait. The application answers those for which it returns None.
    - ``needs_broker`` is False for a service that does its work without the broker.

    The server refuses with problem details whatever is over its limits or is not clear. A ``Problem`` that the
    application raises is such an answer too.

    Raises PluginError or RunnerError if it cannot listen, and ValueError for a wrong number of threads.
    """
    if not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"threads: {threads} is out of range; allowed: 1 to {MAX_THREADS}")
    with HttpServer(
        app, context, host=host, port=port, allowed_hosts=allowed_hosts, threads=threads,
        max_body_bytes=max_body_bytes, direct=direct or {},
    ) as server:  # fmt: skip
        context.ready(f"listening on {server.url}", needs_broker=needs_broker)
        server.serve(context.wait_stop)
