"""Server-sent events (HTML Living Standard, section 9.2). The event loop sends all events, so streams need no threads.

A slow client loses frames, but does not delay other clients. Later, the slow client gets a ``lost`` event with the
number of lost frames, so that a page can reload its data.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from runner.http.problem import Problem
from runner.strict_json import encode_json

if TYPE_CHECKING:
    from flask import Response

    from runner.http.waitress_adapter import StrictChannel

#: The maximum number of streams in a process. Additional clients get a 503 response.
MAX_STREAMS = 64
#: The maximum number of bytes that wait for a client. Frames above this limit are lost, unless no other frame waits.
MAX_BACKLOG = 64 * 1024
#: The maximum number of a feed's frames that can wait for the event loop.
MAX_WAITING = 256
#: Milliseconds after which a browser reconnects, for example after a restart.
RECONNECT_MS = 2000
RETRY_AFTER_SECONDS = 10
#: A comment that detects a closed connection, and shows proxies that an open connection is in use.
HEARTBEAT = b":\n\n"
#: The key in a request's environment for the function that subscribes the client to a feed. The function raises
#: Problem if too many streams are open.
SUBSCRIBE = "runner.http.subscribe"
_LINE_END = re.compile(r"\r\n|\r|\n")


def frame(data: object, event: str = "message", id: str | None = None) -> bytes:
    """Return the bytes of an event. Data that is not a string is sent as JSON. Raises ValueError or TypeError."""
    for name, value in (("event", event), ("id", id)):
        if value is not None and (_LINE_END.search(value) or "\0" in value):
            raise ValueError(f"{name}: contains a line break or NUL, {value!r}; allowed: one line")
    text = data if isinstance(data, str) else encode_json(data).decode()
    lines = [] if event == "message" else [f"event: {event}"]
    lines += [] if id is None else [f"id: {id}"]
    lines += [f"data: {line}" for line in _LINE_END.split(text)]
    return ("\n".join(lines) + "\n\n").encode()


class Feed:
    """A source of events for all subscribed clients. Any thread may call ``send``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames: deque[bytes] = deque()
        self._dropped = 0
        #: A function that wakes the event loop, or None while there is no subscriber.
        self._wake: Callable[[Feed], None] | None = None

    def send(self, data: object, event: str = "message", id: str | None = None) -> None:
        """Send an event to each subscriber, without waiting.

        ``data`` is a string, or another value that is sent as JSON. Raises ValueError or TypeError if ``data`` cannot
        be written as JSON, or if ``event`` or ``id`` contains several lines.
        """
        if self._wake is None:
            return
        one = frame(data, event, id)
        with self._lock:
            wake = self._wake
            if wake is None:
                return
            if len(self._frames) >= MAX_WAITING:
                self._dropped += 1
                return
            self._frames.append(one)
        wake(self)

    def connect(self, wake: Callable[[Feed], None] | None) -> None:
        """Call ``wake`` for each event from now on. ``wake`` is None when the last subscriber has left."""
        with self._lock:
            self._wake = wake
            if wake is None:
                self._frames.clear()
                self._dropped = 0

    def taken(self) -> tuple[int, list[bytes]]:
        """Remove the waiting frames, and return the number of dropped frames and the waiting frames."""
        with self._lock:
            dropped, frames = self._dropped, list(self._frames)
            self._dropped = 0
            self._frames.clear()
        return dropped, frames


class _Subscriber:
    """A client that is subscribed to a feed."""

    def __init__(self, channel: StrictChannel, feed: Feed) -> None:
        self.channel, self.feed, self.lost = channel, feed, 0

    def push(self, frames: list[bytes]) -> None:
        """Send the frames that fit into ``MAX_BACKLOG``, and count all other frames as lost."""
        for one in frames:
            backlog = self.channel.backlog
            if backlog and backlog + len(one) > MAX_BACKLOG:
                self.lost += 1
                continue
            if self.lost:
                self.channel.push(frame(str(self.lost), "lost"))
                self.lost = 0
            self.channel.push(one)


class Streams:
    """The streams of a server. Only the event loop's thread may call methods other than ``reserve`` and ``begin``."""

    def __init__(self, wake: Callable[[], None], most: int) -> None:
        """``wake`` wakes the event loop. ``most`` is the maximum number of streams."""
        self._wake, self._most = wake, most
        self._lock = threading.Lock()
        #: The connections that are streams or are about to become streams.
        self._places: set[StrictChannel] = set()
        self._begun: deque[tuple[StrictChannel, bytes, Feed]] = deque()
        self._changed: deque[Feed] = deque()
        self._subscribers: dict[StrictChannel, _Subscriber] = {}

    def reserve(self, channel: StrictChannel) -> None:
        """Count a connection as a stream. Raises Problem (503) if too many streams are open."""
        with self._lock:
            if not channel.connected:
                return  # ``forget`` was already called, so the connection would be counted forever
            if len(self._places) >= self._most:
                text = f"the maximum of {self._most} open streams has been reached; close a stream, or try again later"
                raise Problem(503, text, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
            self._places.add(channel)

    def begin(self, channel: StrictChannel, head: bytes, feed: Feed) -> None:
        """Make the event loop send the head of a response, followed by the feed's events."""
        self._begun.append((channel, head + b"retry: %d\n\n" % RECONNECT_MS, feed))
        self._wake()

    def forget(self, channel: StrictChannel) -> None:
        """Stop counting a closed connection as a stream."""
        with self._lock:
            self._places.discard(channel)
        subscriber = self._subscribers.pop(channel, None)
        if subscriber is not None and not self._of(subscriber.feed):
            subscriber.feed.connect(None)

    def work(self) -> None:
        """Send the heads of new streams, and all waiting events."""
        while self._begun:
            channel, head, feed = self._begun.popleft()
            if channel in self._places:  # the connection may already be closed
                self._subscribers[channel] = _Subscriber(channel, feed)
                feed.connect(self._has_changed)
                channel.push(head)
        while self._changed:
            feed = self._changed.popleft()
            dropped, frames = feed.taken()
            if not frames:
                continue
            for one in self._of(feed):
                one.lost += dropped
                one.push(frames)

    def keep_alive(self) -> None:
        """Send a comment to each client that has read everything."""
        for channel in tuple(self._subscribers):
            if not channel.backlog:
                channel.push(HEARTBEAT)

    def _has_changed(self, feed: Feed) -> None:
        self._changed.append(feed)
        self._wake()

    def _of(self, feed: Feed) -> list[_Subscriber]:
        return [one for one in self._subscribers.values() if one.feed is feed]


class StreamBody:
    """The body of a stream.

    This server subscribes the client to the feed. If another server runs the application, the body is empty.
    """

    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


def stream(feed: Feed) -> Response:
    """Return a Flask response that subscribes the client to a feed.

    The client gets all further events, until the client closes the connection or the service stops. One process serves
    at most 64 streams. Additional clients get a 503 response.
    """
    # Imported here, because an application may use another framework.
    from flask import Response

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    body: Any = StreamBody(feed)
    return Response(body, headers=headers, mimetype="text/event-stream", direct_passthrough=True)
