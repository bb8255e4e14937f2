"""Where requests come in: waitress, told to be strict and to stop in good order."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher
from waitress.utilities import Error

from runner import Context, PluginError
from runner.errors import RunnerError
from runner.listening import BACKLOG, has_handshakes, has_waiting, is_given_up, turn_away

from .api import MAX_BODY_BYTES
from .problem import CONTENT_TYPE, Problem

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from . import Options

MAX_HEADER_BYTES = 16 * 1024
#: Over this many connections the one that has been silent longest makes room for the newest.
MAX_CONNECTIONS = 512
#: A connection may be silent, and one request may take to arrive, this long.
REQUEST_SECONDS = 20
#: So much of the time to stop is kept from the requests in hand.
STOP_RESERVE = 2.0
#: A connection that has just been opened may take this long to send its first request although the service stops.
FIRST_REQUEST_SECONDS = 0.5
#: When the address is given up, those who are in the midst of connecting to it may take this long.
HANDSHAKE_SECONDS = 0.5
#: How soon a stop is noticed.
POLL_SECONDS = 0.2
PROBES = frozenset({"/healthz", "/readyz"})
DETAILS = {
    413: f"the body is longer than {MAX_BODY_BYTES} bytes",
    431: f"the request's headers are longer than {MAX_HEADER_BYTES} bytes",
}


class LengthRequired(Error):  # type: ignore[misc]
    """Refuses a body without a stated length; waitress knows no such error."""

    code = 411


class StrictParser(HTTPRequestParser):  # type: ignore[misc]
    """Refuses requests whose end is not stated in one way alone, as smuggled requests are."""

    def __init__(self, adj: Adjustments) -> None:
        super().__init__(adj)
        self.started = time.monotonic()

    def parse_header(self, header_plus: bytes) -> None:
        """Check the framing headers, then parse as waitress does."""
        lines = header_plus.split(b"\r\n")[1:]
        if any(line.startswith((b" ", b"\t")) for line in lines):
            raise ParsingError("a header is folded over several lines")
        names = [line.partition(b":")[0].strip().lower() for line in lines]
        if names.count(b"content-length") > 1:
            raise ParsingError("more than one Content-Length")
        if b"transfer-encoding" in names:
            if b"content-length" in names or names.count(b"transfer-encoding") > 1:
                raise ParsingError("more than one statement of the body's length")
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
    """Answers what never reaches the application in the application's own form."""

    def execute(self) -> None:
        """Write the answer; the connection is closed after it."""
        error = self.request.error
        problem = Problem(error.code, DETAILS.get(error.code, str(error.body)))
        body = problem.body()
        self.status = f"{problem.status.value} {problem.status.phrase}"
        self.response_headers.append(("Content-Type", CONTENT_TYPE))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class StrictChannel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    parser_class = StrictParser
    error_task_class = ProblemTask

    has_asked = False

    def is_idle(self) -> bool:
        """No whole request of it is in hand, and no answer is on its way."""
        return not self.requests and not self.total_outbufs_len

    def is_done(self, stopping_for: float) -> bool:
        """Whether it can be closed, as the service stops since so many seconds: a new one still gets its answer."""
        return self.is_idle() and (self.has_asked or stopping_for > FIRST_REQUEST_SECONDS)


class Listener(TcpWSGIServer):  # type: ignore[misc]
    """Accepts connections; slow ones cannot keep out others, nor orders the probes."""

    channel_class = StrictChannel

    def __init__(self, app: WSGIApplication, sock: socket.socket, adj: Adjustments) -> None:
        self.probes = ThreadedTaskDispatcher()
        self.probes.set_thread_count(1)
        family = (sock.family, sock.type, sock.proto, sock.getsockname())
        super().__init__(app, {}, _sock=sock, adj=adj, bind_socket=False, sockinfo=family)

    def add_task(self, channel: StrictChannel) -> None:
        """Queue a request; probes have a thread of their own, since orders wait for the broker."""
        channel.has_asked = True
        path = getattr(channel.requests[0], "path", "")
        (self.probes if path in PROBES else self.task_dispatcher).add_task(channel)

    def handle_accept(self) -> None:
        """Accept, and close the longest silent connection when there are too many."""
        super().handle_accept()
        if len(self.active_channels) > MAX_CONNECTIONS:
            idle = [channel for channel in self.active_channels.values() if channel.is_idle()]
            if idle:
                min(idle, key=lambda channel: channel.last_activity).will_close = True

    def accept_waiting(self) -> None:
        """Accept all that wait for it."""
        for _ in range(BACKLOG):  # more than that are new ones, for the others that share it
            if not has_waiting(self.socket):
                break
            self.handle_accept()

    def maintenance(self, now: float) -> None:
        """Close silent connections, and those whose request trickles in."""
        super().maintenance(now)
        oldest = time.monotonic() - REQUEST_SECONDS
        for channel in self.active_channels.values():
            if channel.request is not None and channel.request.started < oldest:
                channel.will_close = True


class Server:
    """The listening socket, from its binding to its end."""

    def __init__(self, app: WSGIApplication, options: Options, context: Context) -> None:
        sock = _bind(options, context)
        # It warns whenever requests wait for a thread, which they do as long as the broker takes.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        adjustments = Adjustments(
            sockets=[sock],
            threads=options.threads,
            ident=None,
            # waitress refuses a body that is as long as its limit.
            max_request_body_size=MAX_BODY_BYTES + 1,
            max_request_header_size=MAX_HEADER_BYTES,
            inbuf_overflow=MAX_BODY_BYTES * 2,
            connection_limit=MAX_CONNECTIONS * 2,
            channel_timeout=REQUEST_SECONDS,
            cleanup_interval=1,
            # select() knows no descriptor over 1023.
            asyncore_use_poll=True,
            log_socket_errors=False,
        )
        self._listener = Listener(app, sock, adjustments)
        # What is left of the time to stop is for closing down.
        self._drain_seconds = max(0.5, context.stop_timeout - STOP_RESERVE)
        host, port = sock.getsockname()[:2]
        self.port: int = port
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection and end the threads."""
        for threads in (self._listener.task_dispatcher, self._listener.probes):
            threads.shutdown(timeout=0.5)
        self._listener.trigger.close()
        wasyncore.close_all(self._listener._map)

    def serve(self, wait_stop: Callable[[float], bool]) -> None:
        """Serve until ``wait_stop`` says so, then finish the requests in hand."""
        while not wait_stop(0):
            self._turn()
        deadline = time.monotonic() + self._drain_seconds
        self._stop_accepting()
        started = time.monotonic()
        while self._listener.active_channels and time.monotonic() < deadline:
            for channel in self._listener.active_channels.values():
                channel.will_close = channel.will_close or channel.is_done(time.monotonic() - started)
            self._turn()

    def _stop_accepting(self) -> None:
        """Close the listening socket; nobody who waits there is reset where this process is the last to have it."""
        if is_given_up(self._listener.socket):
            turn_away(self._listener.socket)
            until = time.monotonic() + HANDSHAKE_SECONDS
            while has_handshakes(self._listener.socket) and time.monotonic() < until:
                self._turn(0.01)
        self._listener.accept_waiting()
        # Only this: the threads still need the trigger that wakes this loop.
        wasyncore.dispatcher.close(self._listener)

    def _turn(self, seconds: float = POLL_SECONDS) -> None:
        wasyncore.loop(timeout=seconds, use_poll=True, map=self._listener._map, count=1)


def _bind(options: Options, context: Context) -> socket.socket:
    where = f"services.{context.service}.options"
    try:
        found: list[Any] = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
        *_, address = found[0]
        return context.listen(address[0], options.port)
    except UnicodeError:
        raise PluginError(f"{where}.host: not a host's name, {options.host!r}; allowed: such as 127.0.0.1") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise RunnerError(
                f"{where}.port: {options.port} is taken on {options.host}; "
                "stop the program that listens there, or choose another port"
            ) from None
        if error.errno == errno.EACCES:
            raise PluginError(
                f"{where}.port: {options.port} may not be opened by this user; choose one over 1023"
            ) from None
        raise RunnerError(
            f"{where}.host: cannot listen on {options.host!r}, {error.strerror}; "
            "choose an address of this computer, such as 127.0.0.1"
        ) from None
