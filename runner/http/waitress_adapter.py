"""The adapter for waitress, with all parts of waitress that FastCommerce calls or replaces.

No other module imports waitress. The public interface of waitress consists of ``serve`` and its options. This module
uses private names of waitress. Therefore, pyproject.toml limits the version of waitress, and
``tests/unit/test_request_head.py`` compares both parsers.
"""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import FixedStreamReceiver
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import Error

from runner.http.direct_routes import FAILURE, DirectRequest
from runner.http.poller import READ, WRITE, Poller
from runner.http.problem import CONTENT_TYPE, Problem
from runner.http.request_head import has_transfer_encoding, read_plain
from runner.http.streams import SUBSCRIBE, Feed

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

__all__ = ["Acceptor", "StrictChannel", "StrictParser", "adjustments"]

MAX_HEADER_BYTES = 16 * 1024
#: The maximum number of bytes of a body in memory. A longer body is written to a temporary file.
MAX_BODY_IN_MEMORY = 512 * 1024
#: The number of seconds to wait for the first request on a new connection while the service stops.
FIRST_REQUEST_SECONDS = 0.5
#: The paths of probes.
PROBES = frozenset({"/healthz", "/readyz"})
CONNECTION_OPTIONS = frozenset({"keep-alive", "close"})


class LengthRequired(Error):  # type: ignore[misc]
    """The 411 error for a body without a stated length, which waitress does not define."""

    code = 411


class StrictParser(HTTPRequestParser):  # type: ignore[misc]
    """A request parser that refuses requests with an ambiguous end, to prevent request smuggling."""

    def __init__(self, adj: Adjustments) -> None:
        super().__init__(adj)
        self.started = time.monotonic()
        #: The complete response, if it is already known.
        self.answer: bytes | None = None
        #: The publishing error from the request's direct route, if any.
        self.failure: BaseException | None = None

    def parse_header(self, header_plus: bytes) -> None:
        """Parse a plain head. For any other head, check the framing headers and call waitress's parser."""
        plain = read_plain(header_plus)
        if plain is not None:
            self.command, self.path, self.headers, self.content_length = plain
            self.version, self.request_uri = "1.1", self.path
            self.proxy_scheme = self.proxy_netloc = self.query = self.fragment = ""
            self.url_scheme = self.adj.url_scheme
            self.connection_close = self.headers.get("CONNECTION", "").lower() == "close"
            if self.content_length:
                buffer = OverflowableBuffer(self.adj.inbuf_overflow)
                self.body_rcv = FixedStreamReceiver(self.content_length, buffer)
            return
        try:
            is_encoded = has_transfer_encoding(header_plus)
        except ValueError as error:
            raise ParsingError(str(error)) from None
        if is_encoded:
            self.error = LengthRequired("Transfer-Encoding is not supported; send a Content-Length")
            return
        super().parse_header(header_plus)

    def received(self, data: bytes) -> int:
        """Parse received bytes. A refused request gets no 100 (Continue) response."""
        consumed: int = super().received(data)
        if self.error:
            self.expect_continue = False
        return consumed


class ProblemTask(ErrorTask):  # type: ignore[misc]
    """A response with problem details to a request that does not reach the application."""

    def execute(self) -> None:
        """Write the response. The connection is closed afterwards."""
        error, limits = self.request.error, self.request.adj
        details = {
            413: f"the body is longer than {limits.max_request_body_size - 1} bytes",
            431: f"the request's headers are longer than {limits.max_request_header_size} bytes",
        }
        problem = Problem(error.code, details.get(error.code, str(error.body)))
        body = problem.body()
        self.status = f"{problem.status.value} {problem.status.phrase}"
        self.response_headers.append(("Content-Type", CONTENT_TYPE))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class StrictTask(WSGITask):  # type: ignore[misc]
    """A response to a request. The application is called only if the response is not known yet."""

    #: The feed to which the client is subscribed, if the response is a stream.
    feed: Feed | None = None

    def service(self) -> None:
        """Write the response."""
        if self.request.answer is None:
            super().service()
        else:
            self.close_on_finish = self.request.connection_close
            self.channel.write_soon(self.request.answer)

    def write(self, data: bytes) -> None:
        """Write part of the body. The response to HEAD has no body (RFC 9110, section 9.3.2)."""
        is_head = self.request.command == "HEAD"
        super().write(b"" if is_head else data)
        if is_head:
            self.chunked_response = False

    def get_environment(self) -> dict[str, Any]:
        """Return the WSGI environment of the request."""
        environ: dict[str, Any] = super().get_environment()
        # waitress removes slashes, so "//orders" would become "/orders".
        environ["PATH_INFO"] = self.request.path
        environ[FAILURE] = self.request.failure
        environ[SUBSCRIBE] = self._subscribe
        return environ

    def build_response_header(self) -> bytes:
        """Return the response head. During a shutdown, the head announces that the connection will be closed."""
        if self.channel.server.service.is_stopping:
            self.set_close_on_finish()
        return super().build_response_header()  # type: ignore[no-any-return]

    def _subscribe(self, feed: Feed) -> None:
        self.channel.server.service.reserve_stream(self.channel)
        self.feed = feed

    def finish(self) -> None:
        """Finish the response, or pass the connection to the event loop if the response is a stream."""
        if self.feed is None:
            super().finish()
            return
        head = self.build_response_header().replace(b"Transfer-Encoding: chunked\r\n", b"", 1)
        self.wrote_header, self.close_on_finish = True, False
        self.channel.begin_stream(head, self.feed)


class _Polled:
    """The poller's interface to a waitress socket. This base class must precede waitress's own class."""

    _fileno: int

    @property
    def descriptor(self) -> int:
        """The descriptor of the open socket."""
        return self._fileno

    def act(self, flags: int) -> None:
        """Read or write, as the poll(2) flags allow."""
        wasyncore.readwrite(self, flags)

    def add_channel(self, map: dict[int, Any] | None = None) -> None:
        """Add the socket to the poller."""
        super().add_channel(map)  # type: ignore[misc]
        self.poller.add(self)  # type: ignore[attr-defined]

    def del_channel(self, map: dict[int, Any] | None = None) -> None:
        """Remove the socket from the poller."""
        self.poller.forget(self._fileno)  # type: ignore[attr-defined]
        super().del_channel(map)  # type: ignore[misc]


class StrictChannel(_Polled, HTTPChannel):  # type: ignore[misc]
    """A connection. Only the event loop's thread calls the methods defined here, except ``begin_stream``."""

    parser_class = StrictParser
    task_class = StrictTask
    error_task_class = ProblemTask

    is_listening = False
    has_asked = is_streaming = False

    @property
    def request_started(self) -> float | None:
        """The monotonic time of the first byte of an unfinished request, or None if there is no such request."""
        return None if self.request is None else self.request.started

    @property
    def backlog(self) -> int:
        """The number of bytes that the client has not read yet."""
        return self.total_outbufs_len  # type: ignore[no-any-return]

    def wanted(self) -> int:
        """Return the events that the event loop must wait for."""
        # One method replaces waitress's readable() and writable(), because the loop calls it very often.
        if self.total_outbufs_len or self.will_close or self.close_when_flushed:
            return WRITE if not self.is_streaming or self.will_close else READ | WRITE
        return 0 if self.requests else READ

    @property
    def silent_since(self) -> float:
        """The time at which the client last sent or read data, as a value of ``time.time()``."""
        return self.last_activity

    def is_idle(self) -> bool:
        """Return True if the connection has no open request or response, is not a stream, and is not closing."""
        return not (self.requests or self.total_outbufs_len or self.is_streaming or self.will_close)

    def is_stuck(self, since: float) -> bool:
        """Return True if the client has read no part of a response since ``since``, a value of ``time.time()``."""
        return self.total_outbufs_len > 0 and self.last_activity < since

    def is_done(self, stopping_for: float) -> bool:
        """Return True if the connection can be closed, ``stopping_for`` seconds after the start of a shutdown.

        A new connection gets ``FIRST_REQUEST_SECONDS`` for its first request.
        """
        has_time = self.has_asked or stopping_for > FIRST_REQUEST_SECONDS
        return self.is_streaming or (self.is_idle() and has_time)

    @property
    def poller(self) -> Poller:
        """The server's poller."""
        return self.server.poller  # type: ignore[no-any-return]

    def del_channel(self, map: dict[int, Any] | None = None) -> None:
        """Remove the connection from the server and the poller."""
        self.server.service.forget(self)
        super().del_channel(map)

    def asked(self, most: int) -> DirectRequest | None:
        """Return the first request, or None if the request is unusual or its body has more than ``most`` bytes."""
        one = self.requests[0]
        if (
            one.error is not None
            or one.content_length > most
            or one.version != "1.1"
            or one.command == "HEAD"
            or "#" in one.request_uri
            or one.headers.get("CONNECTION", "keep-alive").lower() not in CONNECTION_OPTIONS
        ):
            return None
        body = b"" if one.body_rcv is None else one.body_rcv.getbuf().get()
        return DirectRequest(one.command, one.path, one.query, one.headers, body)

    def fail(self, error: BaseException) -> None:
        """Pass the first request to the application after the direct route has failed to publish the event."""
        self.requests[0].failure = error
        self.server.give(self)

    def close_behind_answer(self) -> bool:
        """Return True if the first request asks to close the connection after the response."""
        return self.requests[0].connection_close  # type: ignore[no-any-return]

    def reply(self, answer: bytes, *, is_last: bool) -> None:
        """Send the complete response to the first request. If ``is_last`` is True, close the connection."""
        (request,) = self.requests[:1]
        request.connection_close = is_last
        if self.connected and not (self.requests[1:] or self.request or self.total_outbufs_len):
            request.close()
            self.requests.clear()
            self.last_activity = time.time()
            self.close_when_flushed = is_last
            self._send_at_once(answer)
            if self.close_when_flushed and not self.total_outbufs_len:
                self.handle_close()
        else:
            request.answer = answer
            self.service()
        if self.writable():
            self.poller.watch(self)

    def _send_at_once(self, answer: bytes) -> None:
        sent, has_failed = self._flush_exception(lambda do_close: self.send(answer, do_close))
        if not has_failed and sent < len(answer) and self.connected:
            self.write_soon(answer[sent:])

    def begin_stream(self, head: bytes, feed: Feed) -> None:
        """Pass the connection to the event loop. The thread that answers the request calls this method."""
        with self.requests_lock:
            self.request, self.is_streaming = None, True
            del self.requests[1:]
            # Further bytes from the client are ignored. A check in a method would slow down all other requests.
            self.received = lambda _: False
        self.server.service.begin_stream(self, head, feed)

    def push(self, data: bytes) -> None:
        """Send part of a stream. Bytes that the client does not read immediately are buffered."""
        try:
            self.write_soon(data)
        except ClientDisconnected:
            return
        self.poller.watch(self)

    def disconnect(self) -> None:
        """Close the connection now, even if the client has not read everything."""
        self.handle_close()

    def end(self) -> None:
        """Close the connection in the next iteration of the event loop."""
        self.will_close = True
        self.poller.watch(self)


class Acceptor(_Polled, TcpWSGIServer):  # type: ignore[misc]
    """The listening socket and the threads. ``service`` is the HttpServer that controls the acceptor."""

    channel_class = StrictChannel
    is_listening = True

    def __init__(
        self, app: WSGIApplication, sock: socket.socket, adj: Adjustments, poller: Poller, service: Any
    ) -> None:
        self.poller, self.service = poller, service
        self._probes = ThreadedTaskDispatcher()
        self._probes.set_thread_count(1)
        # waitress logs a warning for each request that waits for a thread, but such waits are normal while the broker
        # is slow.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        family = (sock.family, sock.type, sock.proto, sock.getsockname())
        super().__init__(app, {}, _sock=sock, adj=adj, bind_socket=False, sockinfo=family)
        self.trigger.close()  # the poller has a cheaper trigger

    @property
    def channels(self) -> Collection[StrictChannel]:
        """The open connections."""
        return self.active_channels.values()  # type: ignore[no-any-return]

    def wanted(self) -> int:
        """Return the events that the event loop must wait for."""
        return READ if self.readable() else 0

    def add_task(self, channel: StrictChannel) -> None:
        """Start a request."""
        channel.has_asked = True
        self.service.begin(channel)

    def give(self, channel: StrictChannel) -> None:
        """Queue a request for a thread. Probes have their own thread, because all other threads may be waiting."""
        self.poller.watch(channel)
        is_probe = getattr(channel.requests[0], "path", "") in PROBES
        (self._probes if is_probe else self.task_dispatcher).add_task(channel)

    def handle_accept(self) -> None:
        """Accept some waiting connections."""
        self.service.accept()

    def accept_one(self) -> bool:
        """Accept a connection. Return False if no connection is waiting."""
        before = len(self.active_channels)
        super().handle_accept()
        return len(self.active_channels) > before

    def accept(self) -> Any:
        """Accept a connection. Return None if no connection is waiting or no descriptor is free."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self.service.lack_descriptor(error)
            return None

    def maintenance(self, now: float) -> None:
        """Close idle connections, and do other work that is due once per second."""
        super().maintenance(now)
        self.service.maintain(now)

    def maintain_when_due(self) -> None:
        """Perform maintenance once per second, even if the server no longer accepts connections."""
        # waitress performs maintenance in this method of the listening socket.
        self.readable()

    def pull_trigger(self) -> None:
        """Wake the event loop. Any thread may call this method."""
        self.poller.wake()

    def stop_accepting(self) -> None:
        """Close the listening socket, but keep all connections."""
        wasyncore.dispatcher.close(self)

    def end(self) -> None:
        """Stop the threads, and close every connection."""
        for threads in (self.task_dispatcher, self._probes):
            threads.shutdown(timeout=0.5)
        wasyncore.close_all(self._map)


def adjustments(sock: socket.socket, threads: int, body: int, connections: int, silence: int) -> Adjustments:
    """Return waitress's settings.

    ``body`` is the maximum size of a body in bytes. ``silence`` is the maximum number of seconds without traffic.
    """
    return Adjustments(
        sockets=[sock],
        threads=threads,
        ident=None,
        # waitress also refuses a body whose length equals the limit.
        max_request_body_size=body + 1,
        max_request_header_size=MAX_HEADER_BYTES,
        inbuf_overflow=min(body * 2, MAX_BODY_IN_MEMORY),
        # The limit applies to all descriptors of the event loop, including the listening socket.
        connection_limit=connections * 2 + 16,
        channel_timeout=silence,
        cleanup_interval=1,
        log_socket_errors=False,
    )
