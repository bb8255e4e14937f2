"""The only importer of waitress: what it calls, and what we call and replace in it.

waitress promises only ``serve`` and its options. All other names here are its private ones, so pyproject.toml bounds
its version, and ``tests/unit/test_request_head.py`` compares both parsers.
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
#: A connection that was just opened may take this long to send its first request although the service stops.
FIRST_REQUEST_SECONDS = 0.5
#: The paths of probes.
PROBES = frozenset({"/healthz", "/readyz"})
CONNECTION_OPTIONS = frozenset({"keep-alive", "close"})


class LengthRequired(Error):  # type: ignore[misc]
    """Refuses a body without a stated length; waitress knows no such error."""

    code = 411


class StrictParser(HTTPRequestParser):  # type: ignore[misc]
    """A request. Refuses one whose end is not stated in one way alone, as smuggled requests are."""

    def __init__(self, adj: Adjustments) -> None:
        super().__init__(adj)
        self.started = time.monotonic()
        #: The whole answer, if it is known already.
        self.answer: bytes | None = None
        #: Why its direct route could not publish its event, if that was tried.
        self.failure: BaseException | None = None

    def parse_header(self, header_plus: bytes) -> None:
        """Read a plain head; of any other check the framing headers, then parse as waitress does."""
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
        """Take what has come in; a refused request is not asked to continue."""
        consumed: int = super().received(data)
        if self.error:
            self.expect_continue = False
        return consumed


class ProblemTask(ErrorTask):  # type: ignore[misc]
    """Answers a request that never reaches the application, with problem details."""

    def execute(self) -> None:
        """Write the answer; the connection is closed after it."""
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
    """Answers a request, by asking the application only if the answer is not known."""

    #: What the client is subscribed to, if the answer is a stream.
    feed: Feed | None = None

    def service(self) -> None:
        """Write the answer."""
        if self.request.answer is None:
            super().service()
        else:
            self.close_on_finish = self.request.connection_close
            self.channel.write_soon(self.request.answer)

    def get_environment(self) -> dict[str, Any]:
        """Return what the application gets to know of the request."""
        environ: dict[str, Any] = super().get_environment()
        # waitress removes slashes, so that "//orders" would be "/orders".
        environ["PATH_INFO"] = self.request.path
        environ[FAILURE] = self.request.failure
        environ[SUBSCRIBE] = self._subscribe
        return environ

    def build_response_header(self) -> bytes:
        """Return the answer's head, by which a client learns of a stop."""
        if self.channel.server.service.is_stopping:
            self.set_close_on_finish()
        return super().build_response_header()  # type: ignore[no-any-return]

    def _subscribe(self, feed: Feed) -> None:
        self.channel.server.service.reserve_stream(self.channel)
        self.feed = feed

    def finish(self) -> None:
        """End the answer, or leave the connection to the loop for a stream, whose end is the connection's."""
        if self.feed is None:
            super().finish()
            return
        head = self.build_response_header().replace(b"Transfer-Encoding: chunked\r\n", b"", 1)
        self.wrote_header, self.close_on_finish = True, False
        self.channel.begin_stream(head, self.feed)


class _Polled:
    """What the poller asks of a socket of waitress; it stands before waitress's class."""

    _fileno: int

    @property
    def descriptor(self) -> int:
        """Its descriptor while it is open."""
        return self._fileno

    def act(self, flags: int) -> None:
        """Do what these flags of poll(2) allow."""
        wasyncore.readwrite(self, flags)

    def add_channel(self, map: dict[int, Any] | None = None) -> None:
        """Begin to wait for it."""
        super().add_channel(map)  # type: ignore[misc]
        self.poller.add(self)  # type: ignore[attr-defined]

    def del_channel(self, map: dict[int, Any] | None = None) -> None:
        """Wait for it no more."""
        self.poller.forget(self._fileno)  # type: ignore[attr-defined]
        super().del_channel(map)  # type: ignore[misc]


class StrictChannel(_Polled, HTTPChannel):  # type: ignore[misc]
    """One connection. Its methods here are for the loop's thread, except ``begin_stream``."""

    parser_class = StrictParser
    task_class = StrictTask
    error_task_class = ProblemTask

    is_listening = False
    has_asked = is_streaming = False

    @property
    def request_started(self) -> float | None:
        """When the first byte of an unfinished request came, as ``time.monotonic()``; None if there is none."""
        return None if self.request is None else self.request.started

    @property
    def backlog(self) -> int:
        """Bytes that wait until the client reads."""
        return self.total_outbufs_len  # type: ignore[no-any-return]

    def wanted(self) -> int:
        """Return what the loop is to wait for."""
        # What waitress's readable() and writable() say, in one call, as it is asked so often.
        if self.total_outbufs_len or self.will_close or self.close_when_flushed:
            return WRITE if not self.is_streaming or self.will_close else READ | WRITE
        return 0 if self.requests else READ

    @property
    def silent_since(self) -> float:
        """When its client last sent or read something, as ``time.time()``."""
        return self.last_activity

    def is_idle(self) -> bool:
        """Return True if it has no unanswered request and no unread answer, and neither streams nor ends."""
        return not (self.requests or self.total_outbufs_len or self.is_streaming or self.will_close)

    def is_stuck(self, since: float) -> bool:
        """Return True if its client has read nothing of an answer since then, as ``time.time()``."""
        return self.total_outbufs_len > 0 and self.last_activity < since

    def is_done(self, stopping_for: float) -> bool:
        """Return True if it can be closed at a stop that began this many seconds ago; a new one gets its answer."""
        has_time = self.has_asked or stopping_for > FIRST_REQUEST_SECONDS
        return self.is_streaming or (self.is_idle() and has_time)

    @property
    def poller(self) -> Poller:
        """The server's poller."""
        return self.server.poller  # type: ignore[no-any-return]

    def del_channel(self, map: dict[int, Any] | None = None) -> None:
        """Wait for it no more."""
        self.server.service.forget(self)
        super().del_channel(map)

    def asked(self) -> DirectRequest | None:
        """The first request, for a direct route; None if anything about it is unusual."""
        one = self.requests[0]
        if (
            one.error is not None
            or one.version != "1.1"
            or "#" in one.request_uri
            or one.headers.get("CONNECTION", "keep-alive").lower() not in CONNECTION_OPTIONS
        ):
            return None
        body = b"" if one.body_rcv is None else one.body_rcv.getbuf().get()
        return DirectRequest(one.command, one.path, one.query, one.headers, body)

    def fail(self, error: BaseException) -> None:
        """Have the application answer the first request, whose direct route could not publish its event."""
        self.requests[0].failure = error
        self.server.give(self)

    def close_behind_answer(self) -> bool:
        """Return True if the first request asks for its answer to be the last one."""
        return self.requests[0].connection_close  # type: ignore[no-any-return]

    def reply(self, answer: bytes, *, is_last: bool) -> None:
        """Send the whole answer to the first request, and close the connection behind the last answer."""
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
        """Leave the connection to the loop; on the thread that answers its request."""
        with self.requests_lock:
            self.request, self.is_streaming = None, True
            del self.requests[1:]
            # The client has nothing more to say. (A method that asks each time would cost all other requests.)
            self.received = lambda _: False
        self.server.service.begin_stream(self, head, feed)

    def push(self, data: bytes) -> None:
        """Send a part of a stream; what the client does not read at once waits."""
        try:
            self.write_soon(data)
        except ClientDisconnected:
            return
        self.poller.watch(self)

    def disconnect(self) -> None:
        """Close it now, whatever its client has not read."""
        self.handle_close()

    def end(self) -> None:
        """Close it as soon as the loop comes round."""
        self.will_close = True
        self.poller.watch(self)


class Acceptor(_Polled, TcpWSGIServer):  # type: ignore[misc]
    """The listening socket and the threads. ``service`` decides what waitress leaves open."""

    channel_class = StrictChannel
    is_listening = True

    def __init__(
        self, app: WSGIApplication, sock: socket.socket, adj: Adjustments, poller: Poller, service: Any
    ) -> None:
        self.poller, self.service = poller, service
        self._probes = ThreadedTaskDispatcher()
        self._probes.set_thread_count(1)
        # It warns whenever requests wait for a thread, which they do as long as the broker needs.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        family = (sock.family, sock.type, sock.proto, sock.getsockname())
        super().__init__(app, {}, _sock=sock, adj=adj, bind_socket=False, sockinfo=family)
        self.trigger.close()  # the poller has one that costs less

    @property
    def channels(self) -> Collection[StrictChannel]:
        """The open connections."""
        return self.active_channels.values()  # type: ignore[no-any-return]

    def wanted(self) -> int:
        """Return what the loop is to wait for."""
        return READ if self.readable() else 0

    def add_task(self, channel: StrictChannel) -> None:
        """Begin a request."""
        channel.has_asked = True
        self.service.begin(channel)

    def give(self, channel: StrictChannel) -> None:
        """Queue a request for a thread; probes have one of their own, since others wait for broker or database."""
        self.poller.watch(channel)
        is_probe = getattr(channel.requests[0], "path", "") in PROBES
        (self._probes if is_probe else self.task_dispatcher).add_task(channel)

    def handle_accept(self) -> None:
        """Accept some of the connections that wait."""
        self.service.accept()

    def accept_one(self) -> bool:
        """Accept a connection; returns False if there is none."""
        before = len(self.active_channels)
        super().handle_accept()
        return len(self.active_channels) > before

    def accept(self) -> Any:
        """Accept a connection; None if there is none, or no descriptor for it."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self.service.lack_descriptor(error)
            return None

    def maintenance(self, now: float) -> None:
        """Close silent connections, and do what else is due once a second."""
        super().maintenance(now)
        self.service.maintain(now)

    def maintain_when_due(self) -> None:
        """Do the maintenance, once a second, also when no connection is accepted any more."""
        # waitress does it whenever it asks this of the listening socket.
        self.readable()

    def pull_trigger(self) -> None:
        """Wake the loop; from any thread."""
        self.poller.wake()

    def stop_accepting(self) -> None:
        """Close the listening socket, and nothing else."""
        wasyncore.dispatcher.close(self)

    def end(self) -> None:
        """End the threads, and close every connection."""
        for threads in (self.task_dispatcher, self._probes):
            threads.shutdown(timeout=0.5)
        wasyncore.close_all(self._map)


def adjustments(sock: socket.socket, threads: int, body: int, connections: int, silence: int) -> Adjustments:
    """Return waitress's settings: bytes of a body, seconds of silence, and numbers of threads and connections."""
    return Adjustments(
        sockets=[sock],
        threads=threads,
        ident=None,
        # waitress refuses a body that is as long as its limit.
        max_request_body_size=body + 1,
        max_request_header_size=MAX_HEADER_BYTES,
        inbuf_overflow=body * 2,
        # Of all descriptors of the loop, the listening one included.
        connection_limit=connections * 2 + 16,
        channel_timeout=silence,
        cleanup_interval=1,
        log_socket_errors=False,
    )
