"""Where requests come in: waitress, told to be strict and to stop in good order."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from runner import Context
from runner.ipc.listening import BACKLOG, has_handshakes, has_waiting, is_given_up, turn_away

from .api import MAX_BODY_BYTES
from .channel import MAX_HEADER_BYTES, StrictChannel
from .descriptors import Shortage, most_connections
from .endpoint import bind
from .loop import Loop

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from . import Options
    from .fast_path import FastPath

#: Over this many connections the one that has been silent longest makes room for the newest.
MAX_CONNECTIONS = 512
#: A connection may be silent, and one request may take to arrive, this long.
REQUEST_SECONDS = 20
#: So much of the time to stop is kept from the requests in hand.
STOP_RESERVE = 2.0
#: When the address is given up, those who are in the midst of connecting to it may take this long.
HANDSHAKE_SECONDS = 0.5
#: At the stop, orders whose confirm has not come so long before the end of the requests in hand are refused.
REFUSE_SECONDS = 0.5
#: And the log lines of orders may take this long to be written.
LOG_SECONDS = 0.5
#: Connections accepted in a turn: one, so that all processes that share the address get some; more while orders in
#: hand make turns long, one for so many of them.
MAX_ACCEPTS, ORDERS_PER_ACCEPT = 16, 4
#: How often it is looked, while stopping, whether all is done.
DRAIN_POLL_SECONDS = 0.05
#: Seconds to wait when there is no descriptor for a new connection, and none of the others can go.
SHORTAGE_PAUSE = 0.01
#: How soon a stop is noticed.
POLL_SECONDS = 0.2
PROBES = frozenset({"/healthz", "/readyz"})


class Listener(TcpWSGIServer):  # type: ignore[misc]
    """Accepts connections; slow clients keep out no others, nor do orders that wait for the broker keep out the probes.

    They still wait for the loop itself, which reads and answers plain orders: 10 ms or more a turn under load.
    """

    channel_class = StrictChannel

    def __init__(
        self,
        app: WSGIApplication,
        sock: socket.socket,
        adj: Adjustments,
        fast_path: FastPath | None,
        most: int,
        log: logging.Logger,
    ) -> None:
        """``most`` is how many connections there may be."""
        self._most, self._shortage = most, Shortage(log)
        self.probes = ThreadedTaskDispatcher()
        self.probes.set_thread_count(1)
        self._fast_path = fast_path
        self._loop_thread = threading.get_ident()
        self._waking = threading.Lock()
        self._is_asleep = self._is_closed = False
        sockets: dict[int, Any] = {}
        self.loop = Loop(sockets)
        family = (sock.family, sock.type, sock.proto, sock.getsockname())
        super().__init__(app, sockets, _sock=sock, adj=adj, bind_socket=False, sockinfo=family)
        self.loop.watch_all()
        if fast_path is not None:
            fast_path.wake = self.pull_trigger

    def add_task(self, channel: StrictChannel) -> None:
        """Begin a request."""
        channel.has_asked = True
        if (
            self._fast_path is None
            or threading.get_ident() != self._loop_thread
            or not self._fast_path.take(channel, channel.requests[0])
        ):
            self.give(channel)

    def give(self, channel: StrictChannel) -> None:
        """Queue a request for a thread; probes have one of their own, since others wait for broker or database."""
        self.loop.watch(channel)
        path = getattr(channel.requests[0], "path", "")
        (self.probes if path in PROBES else self.task_dispatcher).add_task(channel)

    def handle_accept(self) -> None:
        """Accept some that wait for it, and for each close the longest silent one when there are too many."""
        in_hand = 0 if self._fast_path is None else self._fast_path.in_hand()
        for _ in range(min(MAX_ACCEPTS, 1 + in_hand // ORDERS_PER_ACCEPT)):
            before = len(self.active_channels)
            super().handle_accept()
            if len(self.active_channels) == before:
                break
            if len(self.active_channels) > self._most:
                self._make_room()

    def accept(self) -> Any:
        """Accept a connection; None if there is none, or no descriptor for it."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            # The connection waits in the kernel until one of ours has gone.
            self._shortage.report(error)
            if not self._make_room():
                time.sleep(SHORTAGE_PAUSE)  # otherwise the loop would ask again and again
            return None

    def _make_room(self) -> bool:
        """Close the connection that has been silent longest; returns False if none is silent."""
        idle = [one for one in self.active_channels.values() if one.is_idle() and not one.will_close]
        if idle:
            min(idle, key=lambda channel: channel.last_activity).end()
        return bool(idle)

    def accept_waiting(self) -> None:
        """Accept all that wait for it."""
        for _ in range(BACKLOG):  # more than that are new ones, for the others that share it
            if not has_waiting(self.socket):
                break
            self.handle_accept()

    def maintenance(self, now: float) -> None:
        """Close silent connections, those whose request trickles in, and those whose client does not read."""
        super().maintenance(now)
        oldest = time.monotonic() - REQUEST_SECONDS
        for channel in tuple(self.active_channels.values()):
            if channel.is_stuck(now - 2 * REQUEST_SECONDS):
                # It can never be written to, which is when waitress closes one.
                channel.handle_close()
            elif channel.request is not None and channel.request.started < oldest:
                channel.will_close = True
        self.loop.watch_all()
        if self._fast_path is not None:
            self._fast_path.give_up_late()

    def maintain_when_due(self) -> None:
        """Do the maintenance, once a second, also when no connection is accepted any more."""
        # waitress does it whenever it asks this of the listening socket.
        self.readable()

    def turn(self, seconds: float) -> None:
        """Do what is known by now, then wait for at most so many seconds for what comes next, and read it."""
        # What changes from here on pulls the trigger.
        self._is_asleep = True
        if self._fast_path is not None:
            self._fast_path.work()
        self.loop.prepare()
        self.loop.turn(seconds)
        self._is_asleep = False

    def pull_trigger(self) -> None:
        """Wake the loop, unless it is awake; from any thread, also after the end."""
        if self._is_asleep:
            with self._waking:
                if self._is_asleep and not self._is_closed:
                    self._is_asleep = False
                    super().pull_trigger()

    def del_channel(self, map: dict[int, Any] | None = None) -> None:
        """Accept no more."""
        self.loop.forget(self._fileno)
        super().del_channel(map)

    def end(self) -> None:
        """Close every connection, and the descriptors of the loop."""
        with self._waking:
            # Its descriptor may be somebody else's when a late confirm comes.
            self._is_closed = True
            self.trigger.close()
        wasyncore.close_all(self._map)
        self.loop.close()


class Server:
    """The listening socket, from its binding to its end."""

    def __init__(self, app: WSGIApplication, options: Options, context: Context, fast_path: FastPath | None) -> None:
        sock = bind(options, context)
        # It warns whenever requests wait for a thread, which they do as long as the broker takes.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        most = most_connections(MAX_CONNECTIONS, context.log)
        adjustments = Adjustments(
            sockets=[sock],
            threads=options.threads,
            ident=None,
            # waitress refuses a body that is as long as its limit.
            max_request_body_size=MAX_BODY_BYTES + 1,
            max_request_header_size=MAX_HEADER_BYTES,
            inbuf_overflow=MAX_BODY_BYTES * 2,
            # Of all descriptors of the loop, the listening one included.
            connection_limit=most * 2 + 16,
            channel_timeout=REQUEST_SECONDS,
            cleanup_interval=1,
            log_socket_errors=False,
        )
        self._fast_path = fast_path
        self._listener = Listener(app, sock, adjustments, fast_path, most, context.log)
        # What is left of the time to stop is for closing down.
        self._drain_seconds = max(0.5, context.stop_timeout - STOP_RESERVE)
        host, port = sock.getsockname()[:2]
        self.port: int = port
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        if self._fast_path is not None:
            self._fast_path.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection and end the threads."""
        for threads in (self._listener.task_dispatcher, self._listener.probes):
            threads.shutdown(timeout=0.5)
        self._listener.end()
        if self._fast_path is not None:
            self._fast_path.stop(LOG_SECONDS)

    def serve(self, wait_stop: Callable[[float], bool]) -> None:
        """Serve until ``wait_stop`` says so, then finish the requests in hand."""
        while not wait_stop(0):
            until = time.monotonic() + POLL_SECONDS
            while (left := until - time.monotonic()) > 0:
                self._listener.turn(left)
        deadline = time.monotonic() + self._drain_seconds
        if self._fast_path is not None:
            self._fast_path.is_stopping = True
        self._stop_accepting()
        started = time.monotonic()
        last_call = deadline - min(REFUSE_SECONDS, self._drain_seconds / 2)
        while self._listener.active_channels and (now := time.monotonic()) < deadline:
            self._listener.maintain_when_due()
            if self._fast_path is not None and now >= last_call:
                self._fast_path.give_up_all()
            for channel in self._listener.active_channels.values():
                if channel.is_done(now - started):
                    channel.end()
            self._listener.turn(DRAIN_POLL_SECONDS)

    def _stop_accepting(self) -> None:
        """Close the listening socket; nobody who waits there is reset where this process is the last to have it."""
        if is_given_up(self._listener.socket):
            turn_away(self._listener.socket)
            until = time.monotonic() + HANDSHAKE_SECONDS
            while has_handshakes(self._listener.socket) and time.monotonic() < until:
                self._listener.turn(0.01)
        self._listener.accept_waiting()
        # Only this: the threads still need the trigger that wakes this loop.
        wasyncore.dispatcher.close(self._listener)
